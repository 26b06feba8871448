"""Matching: which query answers for which object.

One-to-one (Hungarian) decides what is scored and reported. One-to-many lets several queries learn from one
object, which speeds training up and is dropped afterwards.
Source: Carion et al. 2020, arXiv:2005.12872; costs and constants of the official training code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import ConfigError, ShapeError, TrainingError
from conceptseg.losses.boxes import box_overlap
from conceptseg.losses.targets import PackedTargets, Targets


@dataclass(frozen=True)
class MatchCosts:
    """What a one-to-one match costs; the defaults are the released recipe's."""

    l1: float = 5.0  # weight of the L1 distance of (cx, cy, w, h)
    giou: float = 2.0  # weight of -GIoU
    classification: float = 2.0  # weight of the difference of the two focal terms
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0


@dataclass(frozen=True)
class OneToManyConfig:
    """Which queries may learn from an object; the defaults are the released recipe's."""

    score_share: float = 0.3  # alpha in C = alpha * score + (1 - alpha) * IoU
    threshold: float = 0.4  # a positive has C above this
    top_k: int = 4  # and is among about so many best of its object
    # Give an object without a positive its best-overlapping query, whatever its C: else nothing is matched
    # while no query overlaps anything by 0.4, which is most of the early training from random weights.
    min_one: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.score_share <= 1:
            raise ConfigError(f"score_share = {self.score_share} is outside 0..1")
        if self.top_k < 1:
            raise ConfigError(f"top_k = {self.top_k}; at least 1 query per object is needed")


@dataclass
class Matches:
    """K matched (query, object) couples, as four (K,) long tensors; the layer is 0 for single-layer input."""

    layer_index: Tensor
    pair_index: Tensor
    query_index: Tensor
    target_index: Tensor  # slot in the padded targets, 0..G-1

    def __len__(self) -> int:
        return self.pair_index.shape[0]

    def of_layer(self, layer: int) -> Matches:
        """The matches of one decoder layer; its layer_index becomes 0."""
        chosen = self.layer_index == layer
        pair, query, target = self.pair_index[chosen], self.query_index[chosen], self.target_index[chosen]
        return Matches(torch.zeros_like(pair), pair, query, target)


@torch.no_grad()
def hungarian_match(
    class_logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, costs: MatchCosts | None = None
) -> Matches:
    """Give every object the one query that fits it best, at the lowest total cost of its pair.

    All layers and pairs share one cost computation and one copy to the host.

    Args:
        class_logits: (N, B), or (L, N, B) to match L layers at once.
        boxes_cxcywh: (N, B, 4) or (L, N, B, 4), 0..1.
        targets: of the same B pairs.
        costs: weights; None for the official ones.

    Returns:
        Up to min(N, objects) matches per pair and layer; none for a pair without objects.

    Raises:
        ShapeError: the inputs disagree in shape.
        TrainingError: a logit, box or target is not finite; names which.
    """
    class_logits, boxes_cxcywh = _with_layers(class_logits, boxes_cxcywh, targets)
    packed = targets.pack()
    cost = _one_to_one_cost(class_logits, boxes_cxcywh, packed, costs or MatchCosts())  # (L, N, T)
    cost_host = cost.cpu().numpy()
    if not np.isfinite(cost_host).all():
        raise TrainingError(_blame(class_logits, boxes_cxcywh, packed))
    layers, queries, columns = _assign(cost_host, packed.counts)
    device = class_logits.device
    column = torch.from_numpy(columns).to(device)
    return Matches(
        layer_index=torch.from_numpy(layers).to(device),
        pair_index=packed.pair_index[column],
        query_index=torch.from_numpy(queries).to(device),
        target_index=packed.slot_index[column],
    )


@torch.no_grad()
def one_to_many_match(
    class_logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, config: OneToManyConfig | None = None
) -> Matches:
    """Give every object several queries: those with a high mix of score and overlap.

    With C = alpha * score + (1 - alpha) * IoU, a query is positive for an object if C is above the threshold
    and above the 1 - k/N quantile of the object's column. A query may be positive for several objects.

    Args:
        class_logits: (N, B).
        boxes_cxcywh: (N, B, 4), 0..1.
        targets: of the same B pairs.
        config: None for the official constants with `min_one`.

    Raises:
        ShapeError: the inputs disagree in shape.
        TrainingError: a logit, box or target is not finite; names which.
    """
    config = config or OneToManyConfig()
    class_logits, boxes_cxcywh = _with_layers(class_logits, boxes_cxcywh, targets)
    if class_logits.shape[0] != 1:
        raise ShapeError(f"one-to-many matching takes one layer, (N, B); got {tuple(class_logits.shape)}")
    packed = targets.pack()
    boxes = boxes_cxcywh[0][:, packed.pair_index].float()  # (N, T, 4)
    iou, giou = box_overlap(boxes, packed.boxes_cxcywh.float())
    score = class_logits[0].float().sigmoid()[:, packed.pair_index]
    quality = config.score_share * score + (1 - config.score_share) * iou
    if not torch.isfinite(quality + giou).all():  # the IoU of an infinite box is 0, its GIoU is not finite
        raise TrainingError(_blame(class_logits, boxes_cxcywh, packed))

    queries, objects = quality.shape
    positive = quality > config.threshold
    if queries > config.top_k and objects:
        positive &= quality > torch.quantile(quality, 1 - config.top_k / queries, dim=0)
    if config.min_one and queries and objects:
        # Where nothing overlaps, the generalised IoU still says which query is nearest.
        closest = torch.where(iou.amax(0) > 0, iou, giou).argmax(0)  # (T,)
        positive[closest, torch.arange(objects, device=positive.device)] |= ~positive.any(0)
    query_index, column = positive.nonzero(as_tuple=True)
    pair_index, target_index = packed.pair_index[column], packed.slot_index[column]
    return Matches(torch.zeros_like(column), pair_index, query_index, target_index)


def _one_to_one_cost(
    class_logits: Tensor, boxes_cxcywh: Tensor, packed: PackedTargets, costs: MatchCosts
) -> Tensor:
    """(L, N, T): only the T real objects, each against the queries of its own pair."""
    logits = class_logits.float()
    p = logits.sigmoid()
    found = -costs.focal_alpha * (1 - p) ** costs.focal_gamma * F.logsigmoid(logits)
    missed = -(1 - costs.focal_alpha) * p**costs.focal_gamma * F.logsigmoid(-logits)
    class_cost = (found - missed)[:, :, packed.pair_index]  # (L, N, T)
    boxes = boxes_cxcywh[:, :, packed.pair_index].float()  # (L, N, T, 4)
    l1 = (boxes - packed.boxes_cxcywh.float()).abs().sum(-1)
    _, giou = box_overlap(boxes, packed.boxes_cxcywh.float())
    return costs.l1 * l1 - costs.giou * giou + costs.classification * class_cost


def _assign(cost: NDArray[np.float32], counts: list[int]) -> tuple[NDArray[np.int64], ...]:
    """Solve each (layer, pair) block; returns layer, query and column in T of every match."""
    layers: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    queries: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    columns: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for layer in range(cost.shape[0]):
        start = 0
        for count in counts:
            if count:
                rows, chosen = linear_sum_assignment(cost[layer, :, start : start + count])
                layers.append(np.full(len(rows), layer, np.int64))
                queries.append(rows.astype(np.int64))
                columns.append(chosen.astype(np.int64) + start)
            start += count
    return np.concatenate(layers), np.concatenate(queries), np.concatenate(columns)


def _with_layers(class_logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    if class_logits.ndim == 2:
        class_logits, boxes_cxcywh = class_logits[None], boxes_cxcywh[None]
    if boxes_cxcywh.shape != (*class_logits.shape, 4):
        got, wanted = tuple(boxes_cxcywh.shape), (*class_logits.shape, 4)
        raise ShapeError(f"class logits {tuple(class_logits.shape)} need boxes {wanted}, not {got}")
    if class_logits.shape[-1] != targets.valid.shape[0]:
        pairs, expected = class_logits.shape[-1], targets.valid.shape[0]
        raise ShapeError(f"predictions are for {pairs} pairs, targets for {expected}")
    return class_logits, boxes_cxcywh


def _blame(class_logits: Tensor, boxes_cxcywh: Tensor, packed: PackedTargets) -> str:
    """Name the input that made the matching cost NaN or infinite."""
    parts = {
        "class logits": class_logits,
        "predicted boxes": boxes_cxcywh,
        "target boxes": packed.boxes_cxcywh,
    }
    bad = {name: int((~torch.isfinite(value)).sum()) for name, value in parts.items()}
    listed = ", ".join(f"{count} of {parts[name].numel()} {name}" for name, count in bad.items() if count)
    return f"the matching cost is not finite: {listed or 'overflow'} NaN or infinite"
