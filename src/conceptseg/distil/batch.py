"""A batch that may bring the teacher's features with it, read from disk instead of computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.data.batch import Batch


@dataclass
class DistilBatch(Batch):
    """Images and phrases, and what the teacher's neck gives for these images."""

    teacher_levels: list[Tensor] | None = None  # finest first, each (I, D, h, w); None: to be computed

    def to(self, device: torch.device | str) -> DistilBatch:
        moved = vars(super().to(device))
        levels = self.teacher_levels
        moved["teacher_levels"] = None if levels is None else [level.to(device) for level in levels]
        return DistilBatch(**moved)
