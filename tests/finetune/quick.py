"""A run of seconds: six steps of two small pictures."""

from __future__ import annotations

import torch
from torch import Tensor

OVERRIDES = [
    "step_count=6",
    "resolution=64",
    "window_resolution=32",
    "batch.images=2",
    "batch.workers=0",
    "optimiser.warmup_steps=2",
    "save_every=2",
    "log_every=1",
    "looks=2",
    "scenes=0",
    "weights_dtype=float32",
]


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Weights of two runs that differ in the order of sums."""
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=1e-4), name
