"""Work on a map part by part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from conceptseg.models.cpu import parts
from conceptseg.models.cpu.parts import by_parts, in_parts


def test_every_place_is_done_once_also_at_the_edges() -> None:
    x = torch.arange(2 * 7 * 5 * 3, dtype=torch.float32).view(2, 7, 5, 3)
    shapes = []

    def double(square: Tensor) -> Tensor:
        shapes.append(tuple(square.shape[:3]))
        return 2 * square

    assert torch.equal(by_parts(double, x, 4), 2 * x)
    assert shapes == [(1, 4, 4), (1, 4, 1), (1, 3, 4), (1, 3, 1)] * 2


def test_only_large_maps_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FEWEST_NUMBERS", 100)
    with torch.no_grad():
        assert in_parts(torch.zeros(1, 5, 5, 4))
        assert not in_parts(torch.zeros(1, 5, 5, 3))
        assert not in_parts(torch.zeros(1, 5, 5, 4, device="meta"))
    assert not in_parts(torch.zeros(1, 5, 5, 4))
