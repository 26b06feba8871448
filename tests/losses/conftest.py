"""Targets and detector outputs in the contract's layouts, made of a few numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from conceptseg.losses.targets import Targets

MakeTargets = Callable[..., Targets]


@pytest.fixture
def make_targets() -> MakeTargets:
    def make(boxes: list[list[list[float]]], masks: Tensor | None = None) -> Targets:
        """`boxes`: for each pair its objects' cx, cy, w, h; padded here to the longest list."""
        slots = max(len(pair) for pair in boxes)
        padded = torch.zeros(len(boxes), slots, 4)
        valid = torch.zeros(len(boxes), slots, dtype=torch.bool)
        for index, pair in enumerate(boxes):
            if pair:
                padded[index, : len(pair)] = torch.tensor(pair)
                valid[index, : len(pair)] = True
        has_mask = valid.clone() if masks is not None else torch.zeros_like(valid)
        return Targets(padded, valid, valid.any(1), masks, has_mask)

    return make
