"""The detection loss: a detector's output and its targets -> named losses, unweighted.

    one-to-one, last layer   class  box_l1  box_giou  presence  mask_focal  mask_dice
    one-to-one, aux layers   aux_class  aux_box_l1  aux_box_giou  aux_presence
    one-to-many              o2m_class  o2m_box_l1  o2m_box_giou  o2m_mask_focal  o2m_mask_dice
    one-to-many, aux layers  o2m_aux_class  o2m_aux_box_l1  o2m_aux_box_giou
    dense                    semantic_focal  semantic_dice

Auxiliary names hold the sum over their layers, so that every layer weighs as much as the last one, as in the
official code. `LossWeights` holds the weights; the training loop multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from conceptseg.losses.boxes import box_losses, box_overlap
from conceptseg.losses.classification import ClassificationConfig, iou_aware_bce
from conceptseg.losses.masks import MaskLossConfig, mask_losses
from conceptseg.losses.matcher import MatchCosts, Matches, OneToManyConfig, hungarian_match, one_to_many_match
from conceptseg.losses.presence import presence_loss
from conceptseg.losses.semantic import SemanticLossConfig, semantic_losses
from conceptseg.losses.targets import Targets

if TYPE_CHECKING:
    from conceptseg.models.detector import OneToManyOutput
    from conceptseg.models.mask_head import QueryMasks


class Answers(Protocol):
    """What the loss reads of a `DetectorTrace`."""

    @property
    def class_logits(self) -> Tensor: ...  # (L, N, B)

    @property
    def boxes_cxcywh(self) -> Tensor: ...  # (L, N, B, 4)

    @property
    def presence_logits(self) -> Tensor: ...  # (L, B)

    @property
    def query_masks(self) -> QueryMasks: ...  # of the last layer

    @property
    def semantic_logits(self) -> Tensor: ...  # (B, 1, h, w)

    @property
    def one_to_many(self) -> OneToManyOutput | None: ...


@dataclass(frozen=True)
class LossWeights:
    """What each named loss counts in the total; the defaults are the released recipe's."""

    classification: float = 20.0
    presence: float = 20.0
    box_l1: float = 5.0
    box_giou: float = 2.0
    mask_focal: float = 200.0
    mask_dice: float = 10.0
    semantic_focal: float = 20.0
    semantic_dice: float = 30.0
    auxiliary: float = 1.0  # factor on every auxiliary layer
    one_to_many: float = 2.0  # factor on all one-to-many losses
    region_words: float = 10.0  # alignment of objects and phrases, where a stage asks for it
    region_examples: float = 1.0  # likewise of objects and example boxes

    def by_name(self) -> dict[str, float]:
        """The weight of every loss that a training task can name."""
        per_layer = {"class": self.classification, "box_l1": self.box_l1, "box_giou": self.box_giou}
        masks = {"mask_focal": self.mask_focal, "mask_dice": self.mask_dice}
        semantic = {"semantic_focal": self.semantic_focal, "semantic_dice": self.semantic_dice}
        one_to_one = {**per_layer, "presence": self.presence}
        both = self.one_to_many * self.auxiliary
        return {
            **one_to_one,
            **masks,
            **semantic,
            **{f"aux_{name}": self.auxiliary * weight for name, weight in one_to_one.items()},
            **{f"o2m_{name}": self.one_to_many * weight for name, weight in {**per_layer, **masks}.items()},
            **{f"o2m_aux_{name}": both * weight for name, weight in per_layer.items()},
            "region_words": self.region_words,
            "region_examples": self.region_examples,
        }


@dataclass(frozen=True)
class DetectionLossConfig:
    """Constants of all parts; see each part's own config."""

    matching: MatchCosts = field(default_factory=MatchCosts)
    one_to_many: OneToManyConfig = field(default_factory=OneToManyConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    masks: MaskLossConfig = field(default_factory=MaskLossConfig)
    semantic: SemanticLossConfig = field(default_factory=SemanticLossConfig)


class DetectionLoss:
    """Match queries to objects and compare; holds no state but its config."""

    def __init__(self, config: DetectionLossConfig | None = None) -> None:
        self.config = config or DetectionLossConfig()

    def __call__(
        self,
        output: Answers,
        targets: Targets,
        num_boxes: float | Tensor | None = None,
        dense: bool = True,
    ) -> dict[str, Tensor]:
        """Compute every named loss in float32, whatever the precision of the output.

        Args:
            output: of B pairs; `one_to_many` may be None, and then no "o2m_" loss is named.
            targets: of the same B pairs.
            num_boxes: normaliser of box and mask losses; None for the batch's number of objects, at least 1.
                With several processes pass the mean over them.
            dense: also judge the semantic map.

        Returns:
            Scalars by name, unweighted, all finite and differentiable; zero where there is nothing to learn.

        Raises:
            ShapeError: output and targets disagree.
            TrainingError: a prediction is not finite.
        """
        # Read before autocast ends, in which what is made when it is first read belongs.
        masks, many = output.query_masks, output.one_to_many
        semantic = output.semantic_logits if dense else None
        with torch.autocast(output.class_logits.device.type, enabled=False):
            normaliser = targets.valid.sum().clamp(min=1) if num_boxes is None else num_boxes
            losses = self._one_to_one(output, masks, targets, normaliser)
            if semantic is not None:
                losses.update(self._dense(_full(semantic), targets))
            if many is not None:
                losses.update(self._one_to_many(many, targets, normaliser))
        return losses

    def _one_to_one(
        self, output: Answers, masks: QueryMasks, targets: Targets, normaliser: float | Tensor
    ) -> dict[str, Tensor]:
        matches = hungarian_match(output.class_logits, output.boxes_cxcywh, targets, self.config.matching)
        per_layer = self._per_layer(output.class_logits, output.boxes_cxcywh, matches, targets, normaliser)
        per_layer["presence"] = presence_loss(_full(output.presence_logits), targets.present)
        last = output.class_logits.shape[0] - 1
        losses = {name: value[last] for name, value in per_layer.items()}
        losses.update(self._masks(masks, matches.of_layer(last), targets, normaliser))
        if last:
            losses.update({f"aux_{name}": value[:last].sum() for name, value in per_layer.items()})
        return losses

    def _one_to_many(
        self, output: OneToManyOutput, targets: Targets, normaliser: float | Tensor
    ) -> dict[str, Tensor]:
        class_logits, boxes_cxcywh = output.class_logits, output.boxes_cxcywh
        many = one_to_many_match(class_logits[-1], boxes_cxcywh[-1], targets, self.config.one_to_many)
        last = self._per_layer(class_logits[-1:], boxes_cxcywh[-1:], many, targets, normaliser)
        losses = {f"o2m_{name}": value[0] for name, value in last.items()}
        masks = self._masks(output.query_masks, many, targets, normaliser)
        losses.update({f"o2m_{name}": value for name, value in masks.items()})
        if class_logits.shape[0] > 1:
            # The released recipe matches auxiliary one-to-many layers one to one.
            matches = hungarian_match(class_logits[:-1], boxes_cxcywh[:-1], targets, self.config.matching)
            aux = self._per_layer(class_logits[:-1], boxes_cxcywh[:-1], matches, targets, normaliser)
            losses.update({f"o2m_aux_{name}": value.sum() for name, value in aux.items()})
        return losses

    def _per_layer(
        self,
        class_logits: Tensor,
        boxes_cxcywh: Tensor,
        matches: Matches,
        targets: Targets,
        normaliser: float | Tensor,
    ) -> dict[str, Tensor]:
        """Class and box losses of L layers at once, (L,) each."""
        layer, pair, query = matches.layer_index, matches.pair_index, matches.query_index
        predicted = _full(boxes_cxcywh[layer, query, pair])  # (K, 4)
        wanted = targets.boxes_cxcywh[pair, matches.target_index].to(predicted.dtype)
        iou, _ = box_overlap(predicted.detach(), wanted)
        l1, giou = box_losses(predicted, wanted)
        zeros = predicted.new_zeros(class_logits.shape[0])
        class_loss = iou_aware_bce(
            _full(class_logits), matches, iou, targets.present, self.config.classification
        )
        return {
            "class": class_loss,
            "box_l1": zeros.index_add(0, layer, l1) / normaliser,
            "box_giou": zeros.index_add(0, layer, giou) / normaliser,
        }

    def _masks(
        self,
        masks: QueryMasks,
        matches: Matches,
        targets: Targets,
        normaliser: float | Tensor,
    ) -> dict[str, Tensor]:
        """Mask losses of the matched queries whose object has a mask; only those maps are read."""
        pair, query, target = matches.pair_index, matches.query_index, matches.target_index
        known = targets.has_mask[pair, target]
        if targets.masks is None:
            known = torch.zeros_like(known)
        pair, query, target = pair[known], query[known], target[known]
        matched_logits = _full(masks.matched(pair, query))  # (K, h, w)
        wanted = matched_logits.detach() if targets.masks is None else targets.masks[pair, target]
        focal, dice = mask_losses(matched_logits, wanted, self.config.masks)
        return {"mask_focal": focal.sum() / normaliser, "mask_dice": dice.sum() / normaliser}

    def _dense(self, semantic_logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        union = targets.semantic_union()
        if union is None:
            zero = semantic_logits[:0].sum()
            return {"semantic_focal": zero, "semantic_dice": zero}
        focal, dice = semantic_losses(semantic_logits, *union, self.config.semantic)
        return {"semantic_focal": focal, "semantic_dice": dice}


def _full(value: Tensor) -> Tensor:
    """float32 for half precision; float64 stays, for gradient checks."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
