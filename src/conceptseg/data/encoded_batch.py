"""A batch whose images have been encoded before: where encoders rest, their features are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.data.batch import Batch


@dataclass
class EncodedBatch(Batch):
    """A batch that may bring the features of its images along."""

    levels: tuple[Tensor, ...] | None = None  # finest first, each (I, D, h, w)

    def to(self, device: torch.device | str) -> EncodedBatch:
        moved = vars(super().to(device))
        levels = None if self.levels is None else tuple(level.to(device) for level in self.levels)
        return EncodedBatch(**{**moved, "levels": levels})

    def _pairs(self, pairs: Tensor) -> EncodedBatch:
        part, images = super()._pairs(pairs), self.images_of(pairs)
        levels = None if self.levels is None else tuple(level[images] for level in self.levels)
        return EncodedBatch(**vars(part), levels=levels)
