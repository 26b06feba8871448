"""Masks: focal and dice loss of matched masks, on whole maps or on sampled points.

Points follow PointRend (Kirillov et al. 2020, arXiv:1912.08193) as used by Mask2Former: three times as many
random points as needed are looked at, the least certain become most of the sample, the rest stays random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import ConfigError


@dataclass(frozen=True)
class MaskLossConfig:
    """Constants of the mask losses; focal ones are the released recipe's."""

    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    num_points: int | None = None  # points per mask; None compares whole maps at the target's resolution
    oversample: float = 3.0  # random points looked at, for each point kept
    importance: float = 0.75  # share of the points chosen for their uncertainty

    def __post_init__(self) -> None:
        if self.num_points is not None and self.num_points < 1:
            raise ConfigError(f"num_points = {self.num_points}; give at least 1, or none for whole maps")
        if self.oversample < 1:
            raise ConfigError(f"oversample = {self.oversample} is below 1: too few points to choose from")
        if not 0 <= self.importance <= 1:
            raise ConfigError(f"importance = {self.importance} is outside 0..1")


def mask_losses(
    mask_logits: Tensor, target_masks: Tensor, config: MaskLossConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of K matched masks.

    Args:
        mask_logits: (K, h, w), before the sigmoid.
        target_masks: (K, H, W), zero or not, at any resolution.
        config: None for whole maps and the official constants.

    Returns:
        Two tensors (K,), focal (mean over pixels or points) and dice; the caller sums and normalises them.
    """
    config = config or MaskLossConfig()
    if mask_logits.shape[0] == 0:  # resizing refuses an empty batch; an empty sum is zero and differentiable
        empty = mask_logits.flatten(1).sum(1)
        return empty, empty
    target = (target_masks > 0).to(mask_logits.dtype)
    if config.num_points is None:
        logits = resize_logits(mask_logits, target.shape[-2:]).flatten(1)
        labels = target.flatten(1)
    else:
        points_xy = uncertain_points(mask_logits, config.num_points, config.oversample, config.importance)
        logits, labels = sample_points(mask_logits, points_xy), sample_points(target, points_xy)
    return focal_loss(logits, labels, config.focal_alpha, config.focal_gamma), dice_loss(logits, labels)


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """(K, P) logits and targets in 0..1 -> (K,) focal loss, mean over P. Source: arXiv:1708.02002."""
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrongness = p + target - 2 * p * target  # 1 - p_t
    balance = (1 - alpha) + (2 * alpha - 1) * target
    return (balance * cross_entropy * wrongness**gamma).mean(1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(K, P) logits and targets in 0..1 -> (K,) 1 - (2 sum(pg) + 1) / (sum(p) + sum(g) + 1)."""
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum(1) + 1) / (p.sum(1) + target.sum(1) + 1)


def resize_logits(logits: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """(K, h, w) -> (K, H, W), bilinear; returns the input itself where the size is already right."""
    if tuple(logits.shape[-2:]) == tuple(size_hw):
        return logits
    return F.interpolate(logits[:, None], size=tuple(size_hw), mode="bilinear", align_corners=False)[:, 0]


def sample_points(maps: Tensor, points_xy: Tensor) -> Tensor:
    """Read maps (K, h, w) at points (K, P, 2), x and y in 0..1, bilinearly -> (K, P)."""
    grid = (2 * points_xy - 1)[:, :, None]  # (K, P, 1, 2) in -1..1
    return F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0, :, 0]


@torch.no_grad()
def uncertain_points(mask_logits: Tensor, num_points: int, oversample: float, importance: float) -> Tensor:
    """Choose points where the mask is least certain, and some anywhere.

    Args:
        mask_logits: (K, h, w).
        num_points: points per mask.
        oversample: random candidates per point.
        importance: share of the points taken from the least certain candidates.

    Returns:
        (K, num_points, 2), x and y in 0..1.
    """
    masks, device, dtype = mask_logits.shape[0], mask_logits.device, mask_logits.dtype
    chosen = round(importance * num_points)
    candidates = torch.rand(masks, round(oversample * num_points), 2, device=device, dtype=dtype)
    certainty = sample_points(mask_logits, candidates).abs()
    index = certainty.topk(chosen, dim=1, largest=False, sorted=False).indices  # (K, chosen)
    uncertain = candidates.gather(1, index[:, :, None].expand(-1, -1, 2))
    anywhere = torch.rand(masks, num_points - chosen, 2, device=device, dtype=dtype)
    return torch.cat([uncertain, anywhere], dim=1)
