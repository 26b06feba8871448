"""Looks at held-out data while training goes on: what is measured, and which value says what is best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

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


class SceneValidation:
    """The loss on held-out scenes, and how well asked objects are told from the others beside them."""

    def __init__(self, batches: Callable[[], list[Batch]], precision: str) -> None:
        """Args:
        batches: makes them; called once, at the first look.
        precision: "bf16" or "float32", as in training.
        """
        self._make = batches
        self._batches: list[Batch] | None = None
        self._half = precision == "bf16"

    def __call__(self, task: Task, step: int) -> Validation:
        assert isinstance(task, DetectionTask)
        self._batches = self._make() if self._batches is None else self._batches
        device = task.mean.device
        weights = task.loss_weights(step)
        values: dict[str, float] = {}
        grounding: list[float] = []
        for batch in self._batches:
            batch = batch.to(device)
            torch.manual_seed(0)
            count = batch.targets.valid.sum().clamp(min=1).float()
            with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
                losses = task(batch, count)
            for name, value in losses.items():
                values[f"loss/{name}"] = values.get(f"loss/{name}", 0.0) + float(value) / len(self._batches)
            grounding += self._grounding(task, batch)
        values["loss/total"] = sum(
            weights[name.removeprefix("loss/")] * value for name, value in values.items()
        )
        if grounding:
            values["in_scene_auroc"] = sum(grounding) / len(grounding)
        return Validation(values, decides="loss/total")

    def _grounding(self, task: DetectionTask, batch: Batch) -> list[float]:
        """Asked objects against the others of their scene, where the batch knows all objects."""
        if batch.regions is None or not batch.phrases:
            return []
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=self._half):
            output = task.predict(batch)
        regions, targets = batch.regions, batch.targets
        asked = [boxes[valid] for boxes, valid in zip(targets.boxes_cxcywh, targets.valid, strict=True)]
        objects = [regions.boxes_cxcywh[regions.image_index == image] for image in batch.image_index]
        others = [split_objects(own, mine) for own, mine in zip(objects, asked, strict=True)]
        return in_scene_auroc(output.class_logits[-1], output.boxes_cxcywh[-1], asked, others)
