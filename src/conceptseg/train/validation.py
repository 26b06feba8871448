"""Looks at held-out data while training goes on: what is measured, and which value says what is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.evaluation.grounding import in_scene_auroc, split_objects
from conceptseg.train.task import DetectionTask, Task


@dataclass(frozen=True)
class Validation:
    """What one look found.

    Attributes:
        values: by name, for the log and the figures.
        decides: the name of the value that says which weights are best.
        larger_is_better: of that value.
    """

    values: dict[str, float]
    decides: str
    larger_is_better: bool = False

    @property
    def cost(self) -> float:
        """Lower is better; infinite where nothing could be measured."""
        value = self.values[self.decides]
        if math.isnan(value):
            return math.inf
        return -value if self.larger_is_better else value


class Validate(Protocol):
    """Measures a task, in eval mode and without gradients, with the weights that the run would keep."""

    def __call__(self, task: Task, step: int) -> Validation: ...


class HeldOutLosses:
    """The losses on a few batches that are not trained on; their weighted sum says which weights are best."""

    def __init__(self, batches: Callable[[], list[Batch]], precision: str) -> None:
        """Args:
        batches: makes them; called once, at the first look.
        precision: "bf16" or "float32", as in training.
        """
        self._make = batches
        self._batches: list[Batch] | None = None
        self._half = precision == "bf16"

    def batches(self, device: torch.device) -> Iterator[Batch]:
        """The batches, on a device."""
        self._batches = self._make() if self._batches is None else self._batches
        for batch in self._batches:
            yield batch.to(device)

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._half)

    def __call__(self, task: Task, step: int) -> Validation:
        device, weights = task.mean.device, task.loss_weights(step)
        looks: list[dict[str, Tensor]] = []
        for batch in self.batches(device):
            torch.manual_seed(0)
            count = batch.targets.valid.sum().clamp(min=1).float()
            with self.autocast(device):
                looks.append(task(batch, count))
        names = dict.fromkeys(name for losses in looks for name in losses)
        values = {
            f"loss/{name}": sum(float(losses[name]) for losses in looks if name in losses) / len(looks)
            for name in names
        }
        values["loss/total"] = sum(weights[name] * values[f"loss/{name}"] for name in names)
        return Validation(values, decides="loss/total")


class SceneValidation(HeldOutLosses):
    """The loss on held-out scenes, and how well asked objects are told from the others beside them."""

    def __call__(self, task: Task, step: int) -> Validation:
        assert isinstance(task, DetectionTask)
        found = super().__call__(task, step)
        grounding = [
            share for batch in self.batches(task.mean.device) for share in self._grounding(task, batch)
        ]
        if grounding:
            found.values["in_scene_auroc"] = sum(grounding) / len(grounding)
        return found

    def _grounding(self, task: DetectionTask, batch: Batch) -> list[float]:
        """Asked objects against the others of their scene, where the batch knows all objects."""
        if batch.regions is None or not batch.phrases:
            return []
        with self.autocast(batch.pixels.device):
            output = task.predict(batch)
        regions, targets = batch.regions, batch.targets
        asked = [boxes[valid] for boxes, valid in zip(targets.boxes_cxcywh, targets.valid, strict=True)]
        objects = [regions.boxes_cxcywh[regions.image_index == image] for image in batch.image_index]
        others = [split_objects(own, mine) for own, mine in zip(objects, asked, strict=True)]
        return in_scene_auroc(output.class_logits[-1], output.boxes_cxcywh[-1], asked, others)
