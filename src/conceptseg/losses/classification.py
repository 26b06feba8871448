"""Classification: is this query an object of the concept, and how well is it placed?

IABCE, the IoU-aware binary cross-entropy of the official training code: a matched query should score its
own box quality, an unmatched one zero, and only pairs whose concept is present teach anything, because the
presence token answers the other question.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.losses.matcher import Matches


@dataclass(frozen=True)
class ClassificationConfig:
    """Constants of IABCE; the defaults are the released recipe's."""

    pos_weight: float = 10.0  # a matched query counts this much; with 1, every score stays below 0.5
    alpha: float = 0.25  # soft target = score^alpha * IoU^(1 - alpha)
    gamma: float = 2.0  # unmatched queries are weighed by score^gamma
    target_floor: float = 0.01  # smallest soft target, so that a match without overlap is still a positive
    pad_n_queries: int = 200  # a model with fewer queries is averaged as if it had so many


def iou_aware_bce(
    class_logits: Tensor,
    matches: Matches,
    matched_iou: Tensor,
    present: Tensor,
    config: ClassificationConfig | None = None,
) -> Tensor:
    """Teach matched queries their box quality and silence the others.

    Args:
        class_logits: (L, N, B), before the sigmoid and before presence.
        matches: K matches into L, N and B.
        matched_iou: (K,) IoU of each matched box with its target; gets no gradient.
        present: (B,) bool; an absent pair adds nothing, yet counts in the mean.
        config: None for the official constants.

    Returns:
        (L,), the mean over B * max(N, pad_n_queries) of each layer.
    """
    config = config or ClassificationConfig()
    _, queries, pairs = class_logits.shape
    p = class_logits.sigmoid()
    target, matched = _soft_targets(p, matches, matched_iou, config)  # (L, N, B) each
    positive = config.pos_weight * F.binary_cross_entropy_with_logits(class_logits, target, reduction="none")
    # p is not detached here, as in the official code: the modulating factor gets gradient too.
    negative = F.softplus(class_logits) * p**config.gamma
    per_query = torch.where(matched, positive, negative) * present.to(p.dtype)
    return per_query.sum((1, 2)) / (pairs * max(queries, config.pad_n_queries))


@torch.no_grad()
def _soft_targets(
    p: Tensor, matches: Matches, matched_iou: Tensor, config: ClassificationConfig
) -> tuple[Tensor, Tensor]:
    layers, queries, pairs = p.shape
    flat = (matches.layer_index * queries + matches.query_index) * pairs + matches.pair_index
    iou = matched_iou.detach().to(p.dtype).clamp(min=0)
    quality = p.flatten()[flat] ** config.alpha * iou ** (1 - config.alpha)
    target = torch.zeros(layers * queries * pairs, dtype=p.dtype, device=p.device)
    # One-to-many may match a query to several objects. The official code keeps whichever is written last; the
    # best one is as good and does not depend on the order.
    target.scatter_reduce_(0, flat, quality.clamp(min=config.target_floor), reduce="amax")
    target = target.view(layers, queries, pairs)
    return target, target > 0
