"""Alignment of regions and prompts: an object's feature is near every prompt that is true of it.

What contrastive pre-training does for the released vision encoder (whole images and captions), done here for
objects: without it a small network trained from scratch learns to find things long before it learns which of
them a phrase means. Sigmoid form as in SigLIP (Zhai et al. 2023, arXiv:2303.15343); regions instead of images
as in RegionCLIP (Zhong et al. 2022, arXiv:2112.09106).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def region_features(level: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
    """Mean feature under each object's mask.

    Args:
        level: (I, D, h, w).
        masks: (O, H, W) bool; H and W are multiples of h and w.
        image_index: (O,) long.

    Returns:
        (O, D); zero for an empty mask.
    """
    height, width = level.shape[-2:]
    cover = F.adaptive_avg_pool2d(masks[:, None].to(level.dtype), (height, width)).flatten(2)  # (O, 1, h * w)
    weight = cover / cover.sum(-1, keepdim=True).clamp(min=1e-4)
    return torch.bmm(weight, level[image_index].flatten(2).transpose(1, 2))[:, 0]


def region_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Each prompt says yes to what it is true of and no to the rest; both halves weigh the same.

    Args:
        logits: (P, O) float32.
        truth: (P, O), 1 true, 0 false, anything else counts nothing.

    Returns:
        Scalar, the mean over prompts; 0 where nothing is known.
    """
    total = logits.new_zeros(())
    for value, sign in ((1, -1.0), (0, 1.0)):
        known = (truth == value).to(logits.dtype)
        count = known.sum(1)
        per_prompt = (F.softplus(sign * logits) * known).sum(1) / count.clamp(min=1)  # (P,)
        asked = (count > 0).to(logits.dtype)
        total = total + (per_prompt * asked).sum() / asked.sum().clamp(min=1)
    return total
