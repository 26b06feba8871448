"""A batch that may bring the teacher's features with it, read from disk instead of computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.losses.targets import Targets
from conceptseg.models.prompts import GeometricPrompt


@dataclass
class DistilBatch(Batch):
    """Images and phrases, and what the teacher's neck gives for these images."""

    teacher_levels: list[Tensor] | None = None  # finest first, each (I, D, h, w); None: to be computed

    def to(self, device: torch.device | str) -> DistilBatch:
        moved = vars(super().to(device))
        levels = self.teacher_levels
        moved["teacher_levels"] = None if levels is None else [level.to(device) for level in levels]
        return DistilBatch(**moved)

    def split(self, parts: int) -> list[Batch]:
        """By images, each with its own phrases: features of the teacher go with their image.

        Split by pairs, an image in two parts would count twice, and images without phrases could not be.
        """
        chosen = torch.arange(len(self.pixels)).tensor_split(min(parts, len(self.pixels)))
        return [self] if len(chosen) == 1 else [self._images(images) for images in chosen]

    def _images(self, images: Tensor) -> DistilBatch:
        mine = torch.isin(self.image_index.cpu(), images).nonzero().flatten().to(self.pixels.device)
        images = images.to(self.pixels.device)
        position = torch.searchsorted(images, self.image_index[mine])
        levels = self.teacher_levels
        return DistilBatch(
            pixels=self.pixels[images],
            phrases=[self.phrases[i] for i in mine.tolist()],
            token_ids=self.token_ids[mine],
            geometry=GeometricPrompt(**_rows(self.geometry, mine)),
            image_index=position,
            exemplar_index=position,
            targets=Targets(**_rows(self.targets, mine)),
            teacher_levels=None if levels is None else [level[images] for level in levels],
        )


def _rows(tensors: GeometricPrompt | Targets, pairs: Tensor) -> dict[str, Any]:
    """Every tensor's rows of some pairs; what is None stays so."""
    return {name: None if value is None else value[pairs] for name, value in vars(tensors).items()}
