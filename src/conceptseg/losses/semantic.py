"""Semantic map: one dense foreground map per prompt, the union of all objects it names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from conceptseg.losses.masks import dice_loss, focal_loss, resize_logits


@dataclass(frozen=True)
class SemanticLossConfig:
    """Constants of the semantic loss; the defaults are the released recipe's."""

    focal_alpha: float = 0.6
    focal_gamma: float = 2.0


def semantic_losses(
    semantic_logits: Tensor, union_masks: Tensor, counted: Tensor, config: SemanticLossConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of the semantic map, averaged over the pairs that count.

    Args:
        semantic_logits: (B, 1, h, w), before the sigmoid.
        union_masks: (B, H, W), zero or not.
        counted: (B,) bool, pairs with any foreground; the others add nothing.
        config: None for the official constants.

    Returns:
        Two scalars, focal (mean over pixels) and dice; 0 where no pair counts.
    """
    config = config or SemanticLossConfig()
    target = (union_masks > 0).to(semantic_logits.dtype).flatten(1)
    logits = resize_logits(semantic_logits[:, 0], union_masks.shape[-2:]).flatten(1)  # (B, H*W)
    weight = counted.to(logits.dtype)
    normaliser = weight.sum() + 1e-6  # as in the official code: no division by zero without any counted pair
    focal = focal_loss(logits, target, config.focal_alpha, config.focal_gamma)
    dice = dice_loss(logits, target)
    return (focal * weight).sum() / normaliser, (dice * weight).sum() / normaliser
