"""Box formats, and the inverse of the sigmoid that box refinement works in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) left, top, right, bottom."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom -> (..., 4) centre and size."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), dim=-1)


def pixels_to_cxcywh(boxes_xyxy: Tensor | Sequence[Sequence[float]], size_hw: tuple[float, float]) -> Tensor:
    """Boxes on a picture of that size -> (M, 4) centre and size in 0..1, as the network reads them."""
    height, width = size_hw
    boxes = torch.as_tensor(boxes_xyxy).reshape(-1, 4)
    return xyxy_to_cxcywh(boxes / torch.tensor([width, height, width, height]))


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of `x`, with both odds kept above `eps` (1e-3 in the released model)."""
    return torch.log(x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0))
