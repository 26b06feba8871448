"""Sine position encodings of maps, points and boxes.

Interleaved sine and cosine with temperature 10000, as in DETR. The order of the coordinates differs from
place to place in the released model, and is kept: maps [y, x]; points [x, y]; exemplar boxes [y, x, h, w];
reference boxes [y, x, w, h].
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_of_coordinate(x: Tensor, channels: int) -> Tensor:
    """(...) a coordinate in 0..1 -> (..., channels): even channels sine, odd ones cosine."""
    k = torch.arange(channels, dtype=torch.float32, device=x.device)
    divisor = TEMPERATURE ** (2 * torch.div(k, 2, rounding_mode="floor") / channels)
    angle = x.float()[..., None] * (2 * math.pi) / divisor
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


def sine_of_map(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Position encoding of a feature map: (channels, height, width), float32.

    Positions count from 1 and end at 1 (with an epsilon of 1e-6 on the side), as in the released model.
    """
    if torch.compiler.is_compiling():
        # What is made while tracing only stands for a table, and must not stay in the cache.
        return _make_map_table(height, width, channels, str(device))
    return _map_table(height, width, channels, str(device))


@lru_cache(maxsize=64)
def _map_table(height: int, width: int, channels: int, device: str) -> Tensor:
    # A table made in inference mode could not be used in training later; the two share the cache.
    with torch.inference_mode(False), torch.no_grad():
        return _make_map_table(height, width, channels, device)


def _make_map_table(height: int, width: int, channels: int, device: str) -> Tensor:
    y = torch.arange(1, height + 1, dtype=torch.float32, device=device) / (height + 1e-6)
    x = torch.arange(1, width + 1, dtype=torch.float32, device=device) / (width + 1e-6)
    sine_y = sine_of_coordinate(y, channels // 2)[:, None].expand(-1, width, -1)  # (H, W, channels / 2)
    sine_x = sine_of_coordinate(x, channels // 2)[None].expand(height, -1, -1)
    return torch.cat((sine_y, sine_x), dim=-1).permute(2, 0, 1).contiguous()


def sine_of_points(points_xy: Tensor, channels: int) -> Tensor:
    """(..., 2) -> (..., channels), order [x, y]."""
    x, y = points_xy.unbind(-1)
    return torch.cat((sine_of_coordinate(x, channels // 2), sine_of_coordinate(y, channels // 2)), dim=-1)


def sine_of_exemplar_boxes(boxes_cxcywh: Tensor, channels: int) -> Tensor:
    """(..., 4) -> (..., channels + 2): sine of the centre [y, x], then the plain height and width."""
    cx, cy, w, h = boxes_cxcywh.float().unbind(-1)
    centre = [sine_of_coordinate(cy, channels // 2), sine_of_coordinate(cx, channels // 2)]
    return torch.cat((*centre, h[..., None], w[..., None]), dim=-1)


def sine_of_reference_boxes(boxes_cxcywh: Tensor, channels: int) -> Tensor:
    """(..., 4) -> (..., 2 * channels), order [y, x, w, h]."""
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return torch.cat([sine_of_coordinate(c, channels // 2) for c in (cy, cx, w, h)], dim=-1)
