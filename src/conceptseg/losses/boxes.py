"""Boxes: overlap of two sets of boxes, and the losses that pull a matched box onto its target."""

from __future__ import annotations

import torch
from torch import Tensor

from conceptseg.models.boxes import cxcywh_to_xyxy

# Area below which a box counts as empty: 0.1 pixel a side in a 300 pixel image. Without a floor two empty
# boxes give 0/0, and two nearly empty ones a gradient that swamps the batch.
TINY_AREA = 1e-7


def box_overlap(first_cxcywh: Tensor, second_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes that broadcast against each other.

    Unlike torchvision's pairwise functions this takes any leading shape, so that one call serves a batch, and
    a box without area gives 0 rather than NaN.

    Args:
        first_cxcywh: (..., 4).
        second_cxcywh: (..., 4), broadcastable with the first.

    Returns:
        IoU in 0..1 and GIoU in -1..1, each of the broadcast shape without the last axis.

    Source: Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    first, second = cxcywh_to_xyxy(first_cxcywh), cxcywh_to_xyxy(second_cxcywh)
    start, end = first[..., :2], first[..., 2:]
    other_start, other_end = second[..., :2], second[..., 2:]
    intersection = _area(torch.maximum(start, other_start), torch.minimum(end, other_end))
    hull = _area(torch.minimum(start, other_start), torch.maximum(end, other_end))
    union = _area(start, end) + _area(other_start, other_end) - intersection
    iou = intersection / union.clamp(min=TINY_AREA)
    return iou, iou - (hull - union) / hull.clamp(min=TINY_AREA)


def box_losses(predicted_cxcywh: Tensor, target_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    """L1 over the four numbers, and 1 - GIoU, of K matched boxes.

    Args:
        predicted_cxcywh: (K, 4), gets gradient.
        target_cxcywh: (K, 4).

    Returns:
        Two tensors (K,), not reduced; the caller sums them and divides by the number of boxes.
    """
    l1 = (predicted_cxcywh - target_cxcywh).abs().sum(-1)
    _, giou = box_overlap(predicted_cxcywh, target_cxcywh)
    return l1, 1 - giou


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    return width * height
