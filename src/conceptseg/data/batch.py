"""One training batch: images, what is asked of them, and what should be found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.errors import ConfigError
from conceptseg.losses.targets import Targets
from conceptseg.models.prompts import GeometricPrompt


@dataclass
class RegionPhrases:
    """O objects of the batch's images against P phrases and E example boxes: what is true of what."""

    masks: Tensor  # (O, h, w) bool
    boxes_cxcywh: Tensor  # (O, 4) in 0..1
    image_index: Tensor  # (O,) long
    token_ids: Tensor  # (P, T) long
    examples: Tensor  # (E,) long, objects whose boxes are prompts
    truth: Tensor  # (P + E, O) int8: 1 true, 0 false, -1 unclear

    def to(self, device: torch.device | str) -> RegionPhrases:
        """The same on another device."""
        return RegionPhrases(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass
class Batch:
    """B (image, prompt) pairs over I images; several pairs share an image, so that it is encoded once."""

    pixels: Tensor  # (I, 3, H, W) uint8
    phrases: list[str]  # B of them; "visual" where boxes alone say what is meant
    token_ids: Tensor  # (B, T) long
    geometry: GeometricPrompt  # M boxes per pair, padded
    image_index: Tensor  # (B,) long, the image that is searched
    exemplar_index: Tensor  # (B,) long, the image that the boxes lie on; usually the same
    targets: Targets  # of the searched images
    regions: RegionPhrases | None = None  # of all images, also of those that nothing is asked about

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        g = self.geometry

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device)

        return Batch(
            pixels=self.pixels.to(device),
            phrases=self.phrases,
            token_ids=self.token_ids.to(device),
            geometry=GeometricPrompt(move(g.boxes_cxcywh), move(g.box_labels), move(g.box_padding)),
            image_index=self.image_index.to(device),
            exemplar_index=self.exemplar_index.to(device),
            targets=self.targets.to(device),
            regions=None if self.regions is None else self.regions.to(device),
        )

    @property
    def examples(self) -> int:
        """What the batch counts as: its pairs, or its images where nothing is asked."""
        return len(self.phrases) or self.pixels.shape[0]

    def split(self, parts: int) -> list[Batch]:
        """The same pairs in up to so many batches; an image that pairs of two of them need is in both.

        Raises:
            ConfigError: the batch compares all its objects with each other, or asks nothing.
        """
        if parts == 1:
            return [self]
        if self.regions is not None or not self.phrases:
            raise ConfigError("accumulate works with questions alone: regions are compared across the batch")
        chosen = torch.arange(len(self.phrases)).tensor_split(min(parts, len(self.phrases)))
        return [self._pairs(pairs.to(self.pixels.device)) for pairs in chosen]

    def images_of(self, pairs: Tensor) -> Tensor:
        """Numbers of the images that these pairs need, rising."""
        return torch.unique(torch.cat([self.image_index[pairs], self.exemplar_index[pairs]]))

    def _pairs(self, pairs: Tensor) -> Batch:
        images = self.images_of(pairs)
        position = torch.searchsorted(
            images, torch.cat([self.image_index[pairs], self.exemplar_index[pairs]])
        )
        g, t = self.geometry, self.targets

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[pairs]

        return Batch(
            pixels=self.pixels[images],
            phrases=[self.phrases[i] for i in pairs.tolist()],
            token_ids=self.token_ids[pairs],
            geometry=GeometricPrompt(taken(g.boxes_cxcywh), taken(g.box_labels), taken(g.box_padding)),
            image_index=position[: len(pairs)],
            exemplar_index=position[len(pairs) :],
            targets=Targets(
                boxes_cxcywh=t.boxes_cxcywh[pairs],
                valid=t.valid[pairs],
                present=t.present[pairs],
                masks=taken(t.masks),
                has_mask=t.has_mask[pairs],
                semantic=taken(t.semantic),
            ),
        )


@dataclass
class Question:
    """One prompt put to one image, and its answer, before it is padded into a batch."""

    image: int
    phrase: str
    boxes_xyxy: list[tuple[float, float, float, float]]  # pixels of the image they lie on
    labels: list[int]  # 1 like this, 0 not like this
    exemplar_image: int
    objects: list[int]  # indices of the objects that should be found; empty = the concept is absent
