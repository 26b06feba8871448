"""Axial rotary positions, without complex numbers, which cannot be exported."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def axial_rope_table(
    height: int, width: int, head_width: int, theta: float, scale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine for every token of a grid.

    Args:
        height, width: tokens per side; tokens are row-major and count from 0.
        head_width: channels of one head; the first half turns with x, the second with y.
        theta: base of the frequencies.
        scale: coordinates are multiplied by this (window / grid in the released model).
        device: where the table lives.

    Returns:
        Two tensors (height * width, head_width / 2), float32.
    """
    if torch.compiler.is_compiling():
        # What is made while tracing only stands for a table, and must not stay in the cache.
        return _make_table(height, width, head_width, theta, scale, str(device))
    return _table(height, width, head_width, theta, scale, str(device))


@lru_cache(maxsize=64)
def _table(
    height: int, width: int, head_width: int, theta: float, scale: float, device: str
) -> tuple[Tensor, Tensor]:
    # A table made in inference mode could not be used in training later; the two share the cache.
    with torch.inference_mode(False), torch.no_grad():
        return _make_table(height, width, head_width, theta, scale, device)


def _make_table(
    height: int, width: int, head_width: int, theta: float, scale: float, device: str
) -> tuple[Tensor, Tensor]:
    frequencies = theta ** (-torch.arange(0, head_width, 4, dtype=torch.float32, device=device) / head_width)
    token = torch.arange(height * width, device=device)
    x = (token % width).float() * scale
    y = torch.div(token, width, rounding_mode="floor").float() * scale
    angle = torch.cat((x[:, None] * frequencies, y[:, None] * frequencies), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn adjacent channel pairs of (..., tokens, head_width), in float32 as the released model does."""
    pairs = torch.unflatten(x.float(), -1, (-1, 2))
    a, b = pairs[..., 0], pairs[..., 1]  # (..., tokens, head_width / 2)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)
