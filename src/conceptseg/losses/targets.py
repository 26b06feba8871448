"""Targets: what a detector should have found, padded so that a batch of pairs is one set of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.errors import ShapeError


@dataclass
class Targets:
    """Ground truth of B (image, prompt) pairs with up to G objects each.

    Attributes:
        boxes_cxcywh: (B, G, 4) float, normalised to 0..1; padding may hold anything finite.
        valid: (B, G) bool, True for an object, False for padding.
        present: (B,) bool, the concept is in the image; normally `valid.any(1)`.
        masks: (B, G, h, w) bool or uint8, at any one resolution; None for data with boxes only.
        has_mask: (B, G) bool, the object's mask is known; all False where `masks` is None.
        semantic: (B, h, w) bool or uint8, union of the pair's masks; None to take the union of `masks`.
    """

    boxes_cxcywh: Tensor
    valid: Tensor
    present: Tensor
    masks: Tensor | None
    has_mask: Tensor
    semantic: Tensor | None = None

    def __post_init__(self) -> None:
        pairs, slots = self.valid.shape
        expected = {
            "boxes_cxcywh": (self.boxes_cxcywh, (pairs, slots, 4)),
            "present": (self.present, (pairs,)),
            "has_mask": (self.has_mask, (pairs, slots)),
        }
        for name, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ShapeError(f"targets.{name} is {tuple(value.shape)}; it must be {shape}, as valid is")
        if self.masks is not None and tuple(self.masks.shape[:2]) != (pairs, slots):
            got = tuple(self.masks.shape)
            raise ShapeError(f"targets.masks is {got}; its first two sizes must be {(pairs, slots)}")
        if self.semantic is not None and self.semantic.shape[0] != pairs:
            got = tuple(self.semantic.shape)
            raise ShapeError(f"targets.semantic is {got}; its first size must be {pairs}")

    def to(self, device: torch.device | str) -> Targets:
        """The same targets on another device; the copy does not wait for pinned memory."""

        def move(value: Tensor) -> Tensor:
            return value.to(device, non_blocking=True)

        return Targets(
            boxes_cxcywh=move(self.boxes_cxcywh),
            valid=move(self.valid),
            present=move(self.present),
            masks=None if self.masks is None else move(self.masks),
            has_mask=move(self.has_mask),
            semantic=None if self.semantic is None else move(self.semantic),
        )

    def pack(self) -> PackedTargets:
        """The objects without the padding, in pair order."""
        # On the host, because the matcher needs the counts there: one small copy instead of several.
        pair_index, slot_index = self.valid.cpu().nonzero(as_tuple=True)
        counts = torch.bincount(pair_index, minlength=self.valid.shape[0]).tolist()
        device = self.valid.device
        pair_index, slot_index = pair_index.to(device), slot_index.to(device)
        return PackedTargets(pair_index, slot_index, self.boxes_cxcywh[pair_index, slot_index], counts)

    def semantic_union(self) -> tuple[Tensor, Tensor] | None:
        """(B, h, w) union mask and (B,) bool which pairs have a usable one; None without any mask."""
        if self.semantic is not None:
            union = self.semantic > 0
            return union, union.flatten(1).any(1)
        if self.masks is None:
            return None
        known = self.valid & self.has_mask
        union = ((self.masks > 0) & known[:, :, None, None]).any(1)  # (B, h, w)
        # Where one object's shape is unknown, the union would teach that object as background.
        complete = (self.has_mask | ~self.valid).all(1)
        return union, complete & union.flatten(1).any(1)


@dataclass
class PackedTargets:
    """The T objects of a batch without padding, sorted by pair.

    Attributes:
        pair_index: (T,) long, into B.
        slot_index: (T,) long, into G.
        boxes_cxcywh: (T, 4) float.
        counts: number of objects of each of the B pairs.
    """

    pair_index: Tensor
    slot_index: Tensor
    boxes_cxcywh: Tensor
    counts: list[int]
