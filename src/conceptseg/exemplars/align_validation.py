"""Looks at held-out pictures while an alignment goes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from conceptseg.data.batch import Batch
from conceptseg.exemplars.align_recipe import AlignRecipe
from conceptseg.exemplars.box_f1 import box_f1
from conceptseg.exemplars.pool import PoolBatches, PoolConfig, draw_pool
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.presence_reading import PresenceReading
from conceptseg.train.exemplar_alignment import AlignTask
from conceptseg.train.task import Task
from conceptseg.train.validation import Validation


class AlignValidation:
    """Losses on held-out pictures, and the F1 of the boxes that are found there at a score of 0.5."""

    def __init__(
        self, recipe: AlignRecipe, pool: PoolConfig, tokenizer: Tokenizer, reading: PresenceReading
    ) -> None:
        self.recipe = recipe
        self.pool = pool  # with all sizes
        self.tokenizer = tokenizer
        self.reading = reading  # of the model that is aligned
        self._batches: list[Batch] | None = None

    def __call__(self, task: Task, step: int) -> Validation:
        assert isinstance(task, AlignTask)
        if self._batches is None:
            self._batches = held_out_batches(self.pool, self.recipe.validation_batches, self.tokenizer)
        device, weights = task.mean.device, task.loss_weights(step)
        values: dict[str, float] = {}
        counts = np.zeros(3)
        for batch in self._batches:
            batch = batch.to(device)
            torch.manual_seed(0)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                objects = batch.targets.valid.sum().clamp(min=1).float()
                losses, output = task.answer(task.encode_images(batch), batch, objects)
            for name, value in losses.items():
                values[f"loss/{name}"] = values.get(f"loss/{name}", 0.0) + float(value) / len(self._batches)
            counts += box_f1(output, batch.targets, self.reading)
        values["loss/total"] = sum(
            weights[name.removeprefix("loss/")] * value for name, value in values.items()
        )
        values["box_f1"] = float(2 * counts[0] / max(1.0, counts[1] + counts[2]))
        return Validation(values, decides="box_f1", larger_is_better=True)


def held_out_batches(pool: PoolConfig, count: int, tokenizer: Tokenizer) -> list[Batch]:
    """Questions about pictures that the pool does not hold."""
    if pool.dataset is None:
        pool = dataclasses.replace(pool, scenes=2 * pool.pairs * count)
    scenes = draw_pool(pool, "held_out")
    data = PoolBatches(pool, scenes, tokenizer, pool.seed, count)
    return [data[i] for i in range(count)]
