"""How long a run will take, told before it begins: a few of its questions are timed on the machine itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.scenes import make_scenes
from conceptseg.data.step_batches import StepBatches
from conceptseg.evaluation.evaluate import evaluate
from conceptseg.finetune.averaging import TRIED
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.validation import DatasetValidation
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.cpu.training import training_kernels
from conceptseg.segmenter import Segmenter
from conceptseg.train.task import Task

TIMED_PAIRS = 2  # of a step, first; where they are slow, the rest is taken to cost as much each
SLOW = 2.0  # seconds
TIMED_IMAGES = 2  # of those held out, and scenes
LONG = 10.0  # seconds


class SizedBatches(StepBatches, Protocol):
    """Batches that say how large their images are."""

    def side(self, step: int) -> int:
        """Side in pixels of a step's images."""


def forecast(
    task: Task, batches: SizedBatches, look: DatasetValidation, judge: ConceptDataset, recipe: FinetuneRecipe
) -> float:
    """Seconds that a run on this CPU will take from its first step to its report, if it does not end early.

    Nothing changes: no weight, no random number, no image.

    Args:
        task: before its first step.
        batches: of the run.
        look: at held-out images.
        judge: those that the end of the run is judged on.
        recipe: settled.
    """
    fast_on_cpu(task.detector)  # as the run will have it
    with torch.random.fork_rng(devices=[]):
        training = _steps(task, batches, recipe)
    segmenter = Segmenter(task.detector, look.tokenizer, look.config)
    per_image = _evaluation(segmenter, look.dataset)
    looks = -(-recipe.steps // recipe.validate_every)
    averaged = 0 if recipe.keep.tuned_share is not None else 1 + len(TRIED)
    seconds = training + (looks + averaged) * len(look.dataset) * per_image
    seconds += 3 * len(judge) * per_image  # before, after, and with presence fitted
    if recipe.scenes:
        with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
            make_scenes(Path(folder), TIMED_IMAGES, 0, split="held_out")
            seconds += 2 * recipe.scenes * _evaluation(segmenter, open_dataset(folder, "held_out"))
    return seconds


def in_words(seconds: float) -> str:
    """`about 25 minutes`, rounded up."""
    minutes = max(1, -int(-seconds // 60))
    if minutes >= 120:
        return f"about {minutes / 60:.1f} hours"
    return f"about {minutes} minute{'s' * (minutes != 1)}"


def _steps(task: Task, batches: SizedBatches, recipe: FinetuneRecipe) -> float:
    """Seconds of all steps: one of each size is timed, forwards and backwards."""
    sides: dict[int, list[int]] = {}
    for step in range(recipe.steps):
        sides.setdefault(batches.side(step), []).append(step)
    task.train()
    seconds = 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
        for steps in sides.values():
            batch = batches[steps[0]]
            part = batch.split(max(1, batch.examples // TIMED_PAIRS))[0]
            took = _timed(partial(_pass, task, part))
            # A whole step costs less than the sum of its parts.
            whole = (
                took * batch.examples / part.examples if took > SLOW else _timed(partial(_pass, task, batch))
            )
            seconds += whole * len(steps)
    task.zero_grad(set_to_none=True)
    return seconds


def _pass(task: Task, batch: Batch) -> None:
    """Once forwards and backwards."""
    with training_kernels(batch.pixels, torch.is_autocast_enabled("cpu")):
        losses, weights = task(batch, batch.targets.valid.sum().clamp(min=1).float()), task.loss_weights(0)
        total: Tensor = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        torch.autograd.backward(total)


def _evaluation(segmenter: Segmenter, dataset: ConceptDataset) -> float:
    """Seconds per image."""
    count = min(TIMED_IMAGES, len(dataset))
    began = time.perf_counter()
    evaluate(segmenter, dataset, limit=count, worst=0)
    return (time.perf_counter() - began) / count


def _timed(work: Callable[[], object]) -> float:
    """Seconds, the second time, when what is made once is there; where that would be long, the first."""
    for _ in range(2):
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        if seconds > LONG:
            break
    return seconds
