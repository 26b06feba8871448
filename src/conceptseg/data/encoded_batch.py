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
    taught: Tensor | None = None  # (I, T, h, w), the coarsest level of a teacher's vision encoder

    def to(self, device: torch.device | str) -> EncodedBatch:
        moved = vars(super().to(device))
        levels = None if self.levels is None else tuple(level.to(device) for level in self.levels)
        taught = None if self.taught is None else self.taught.to(device)
        return EncodedBatch(**{**moved, "levels": levels, "taught": taught})

    def _pairs(self, pairs: Tensor) -> EncodedBatch:
        part, images = super()._pairs(pairs), self.images_of(pairs)
        levels = None if self.levels is None else tuple(level[images] for level in self.levels)
        taught = None if self.taught is None else self.taught[images]
        return EncodedBatch(**vars(part), levels=levels, taught=taught)
