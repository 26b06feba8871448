"""Exemplars meet the image: an example's token is pulled towards what the vision encoder sees under its box.

Two losses, alone or together. Contrastive, as InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) or in the
log-sigmoid form of SigLIP (Zhai et al. 2023, arXiv:2303.15343): a token is like the image feature under its
own box, and unlike those under the boxes of other prompts. What the analysis of the gap asks for is told from
the background instead, through a shared projection; that brings nothing (docs/exemplars.md).

    exemplar tokens (B, M, D) ─────────────────────────┐
    image features under the same boxes (B, M, D) ─────┴─> cosine / temperature, all against all

ROI distillation: from the token alone, tell the mean feature under its box, that of the model's own vision
encoder or of a teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.errors import ConfigError, ShapeError
from conceptseg.losses.boxes import box_overlap
from conceptseg.models.exemplar.encoder import pool_regions
from conceptseg.models.layers.mlp import MLP

ContrastiveForm: TypeAlias = Literal["none", "sigmoid", "info_nce"]
Against: TypeAlias = Literal["background", "examples"]
CONTRASTIVE, DISTILLATION = "exemplar_contrastive", "exemplar_distillation"
ROI_SIZE = 7  # of the patch whose mean is the image feature under a box
SAME_OBJECT = 0.3  # IoU above which two examples on one image may show the same thing


@dataclass(frozen=True)
class AlignmentConfig:
    """Which alignment losses there are; both may be switched off."""

    contrastive: ContrastiveForm = "info_nce"
    against: Against = "examples"  # what a batch's other prompts show, or the image tokens without an example
    projected: bool = False  # both sides through a shared projection; false: as the network reads them
    temperature: float = 0.1
    negatives: int = 64  # of the background: image tokens per prompt that an exemplar is told apart from
    distillation: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"alignment.temperature is {self.temperature}; it must be above 0")
        if self.negatives < 1:
            raise ConfigError(f"alignment.negatives is {self.negatives}; it must be 1 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the losses that are computed."""
        chosen = {CONTRASTIVE: self.contrastive != "none", DISTILLATION: self.distillation}
        return tuple(name for name, used in chosen.items() if used)


# The losses as the analysis of the exemplar gap has them.
ANALYSED = AlignmentConfig("sigmoid", against="background", projected=True, distillation=True)


class AlignmentLoss(nn.Module):
    """The losses with the projections that only training needs."""

    def __init__(
        self, width: int, config: AlignmentConfig | None = None, teacher_width: int | None = None
    ) -> None:
        """Args:
        width: of tokens and image features.
        config: which losses.
        teacher_width: of a teacher's image features, which ROI distillation then tells; None: it tells the
            model's own.
        """
        super().__init__()
        self.taught = teacher_width is not None
        self.config = config or AlignmentConfig()
        # The same one for both sides: two could agree on a space that neither encoder comes nearer to.
        projected = self.config.contrastive != "none" and self.config.projected
        self.projection = MLP(width, width // 2, width, 2) if projected else None
        self.to_teacher = nn.Linear(width, teacher_width or width) if self.config.distillation else None

    def forward(
        self,
        exemplars: Tensor,
        boxes_cxcywh: Tensor,
        padding: Tensor,
        features: Tensor,
        image_index: Tensor,
        taught: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the exemplars of B prompts with the images that they were drawn on.

        Args:
            exemplars: (M, B, D), tokens of boxes, without the closing one.
            boxes_cxcywh: (B, M, 4) in 0..1; padding may hold anything finite.
            padding: (B, M) bool, True = padding.
            features: (I, D, h, w), of the vision encoder; gets the gradient of the contrastive loss only.
            image_index: (B,) long, the image of each prompt.
            taught: (I, T, h, w), a teacher's features of the same images; without them a loss that is to tell
                a teacher's is left out.

        Returns:
            Scalars by name, unweighted; 0 where there is no box.
        """
        given = exemplars.transpose(0, 1)  # (B, M, D)
        boxes = torch.where(padding[..., None], torch.full_like(boxes_cxcywh, 0.5), boxes_cxcywh).float()
        losses: dict[str, Tensor] = {}
        if self.config.contrastive != "none":
            losses[CONTRASTIVE] = self._contrast(given, boxes, padding, features, image_index)
        told = taught if self.taught else features
        if self.to_teacher is not None and told is not None:
            teacher = _under_boxes(told.detach(), image_index, boxes)
            losses[DISTILLATION] = roi_distillation(self.to_teacher(given), teacher, padding)
        return losses

    def _contrast(
        self, given: Tensor, boxes: Tensor, padding: Tensor, features: Tensor, image_index: Tensor
    ) -> Tensor:
        config = self.config
        project = self.projection if self.projection is not None else nn.Identity()
        if config.against == "examples":
            return example_alignment(
                project(given),
                project(_under_boxes(features, image_index, boxes)),
                other_objects(boxes, padding, image_index),
                temperature=config.temperature,
                form=config.contrastive,
            )
        image = features.flatten(2).transpose(1, 2)  # (I, HW, D)
        return contrastive_alignment(
            project(given),
            project(image)[image_index],
            tokens_under_boxes(boxes, padding, (features.shape[2], features.shape[3])),
            temperature=config.temperature,
            negatives=config.negatives,
            form=config.contrastive,
            image_index=image_index,
        )


def tokens_under_boxes(boxes_cxcywh: Tensor, padding: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The image token that each exemplar sits on: that under the box's centre.

    Args:
        boxes_cxcywh: (B, M, 4) in 0..1.
        padding: (B, M) bool, True = padding.
        size_hw: of the map.

    Returns:
        (B, M) long indices into HW, -1 for padding.
    """
    height, width = size_hw
    column = (boxes_cxcywh[..., 0] * width).long().clamp(0, width - 1)
    row = (boxes_cxcywh[..., 1] * height).long().clamp(0, height - 1)
    return (row * width + column).masked_fill(padding, -1)


def contrastive_alignment(
    exemplars: Tensor,
    image_tokens: Tensor,
    matches: Tensor,
    temperature: float = 0.1,
    negatives: int = 64,
    form: ContrastiveForm = "sigmoid",
    image_index: Tensor | None = None,
) -> Tensor:
    """An exemplar is near the image token it sits on, and far from those that no exemplar sits on.

    Args:
        exemplars: (B, M, D), projected.
        image_tokens: (B, HW, D), projected by the same weights.
        matches: (B, M) long, the image token of each exemplar; -1 for padding.
        temperature: cosines are divided by it.
        negatives: image tokens drawn for each prompt, at most as many as there are.
        form: "sigmoid", each pair on its own, positive and negative terms averaged; or "info_nce", the own
            token among the drawn ones.
        image_index: (B,) long; tokens that match an exemplar of another prompt on the same image are no
            negatives either. None: every prompt has its own image.

    Returns:
        Scalar, the mean over exemplars; 0 without any.

    Raises:
        ShapeError: the sizes disagree, or a match points beyond the image tokens.
    """
    pairs, count, width = exemplars.shape
    if image_tokens.shape[0] != pairs or image_tokens.shape[2] != width or matches.shape != (pairs, count):
        raise ShapeError(
            f"exemplars {tuple(exemplars.shape)}, image tokens {tuple(image_tokens.shape)} and matches "
            f"{tuple(matches.shape)} do not fit; they are (B, M, D), (B, HW, D) and (B, M)"
        )
    if not count:
        return (exemplars.sum() + image_tokens.sum()) * 0.0
    if int(matches.max()) >= image_tokens.shape[1]:
        raise ShapeError(f"a match is {int(matches.max())}; there are {image_tokens.shape[1]} image tokens")
    given = matches >= 0  # (B, M)
    drawn = _draw_negatives(matches, image_tokens.shape[1], negatives, image_index)  # (B, HW)
    others = given[..., None] & drawn[:, None]  # (B, M, HW)
    with torch.autocast(exemplars.device.type, enabled=False):  # it would round the cosines
        # What padding holds must not reach the loss: NaN times zero would stay NaN.
        shown = F.normalize(_precise(exemplars).masked_fill(~given[..., None], 0.0), dim=-1)
        seen = F.normalize(_precise(image_tokens), dim=-1)
        logits = shown @ seen.transpose(1, 2) / temperature  # (B, M, HW)
    own = logits.gather(2, matches.clamp(min=0)[..., None])[..., 0]  # (B, M)
    return _told_apart(own, logits, given, others, form)


def example_alignment(
    exemplars: Tensor,
    features: Tensor,
    others: Tensor,
    temperature: float = 0.1,
    form: ContrastiveForm = "info_nce",
) -> Tensor:
    """An exemplar is near the image feature under its own box, and far from those under others' boxes.

    Args:
        exemplars: (B, M, D).
        features: (B, M, D), what the image shows under each box, in the same space.
        others: (B, M, B, M) bool, the features that each exemplar is told apart from; of padding none.
        temperature: cosines are divided by it.
        form: as in `contrastive_alignment`.

    Returns:
        Scalar, the mean over exemplars that are told apart from any; 0 without any.

    Raises:
        ShapeError: the sizes disagree.
    """
    pairs, count, width = exemplars.shape
    if features.shape != exemplars.shape or others.shape != (pairs, count, pairs, count):
        raise ShapeError(
            f"exemplars {tuple(exemplars.shape)}, features {tuple(features.shape)} and others "
            f"{tuple(others.shape)} do not fit; they are (B, M, D) twice and (B, M, B, M)"
        )
    others = others.flatten(2).flatten(0, 1)  # (BM, BM)
    given = others.any(1)
    # What padding holds must not reach the loss: NaN times zero would stay NaN.
    used = given | others.any(0)
    with torch.autocast(exemplars.device.type, enabled=False):  # it would round the cosines
        shown, seen = (
            F.normalize(_precise(it).reshape(-1, width).masked_fill(~used[:, None], 0.0), dim=-1)
            for it in (exemplars, features)
        )
        logits = shown @ seen.T / temperature  # (BM, BM)
    return _told_apart(logits.diagonal(), logits, given, others, form)


@torch.no_grad()
def other_objects(boxes_cxcywh: Tensor, padding: Tensor, image_index: Tensor) -> Tensor:
    """Which boxes of a batch an example is told apart from: those of other prompts, but for its own object.

    Args:
        boxes_cxcywh: (B, M, 4) in 0..1.
        padding: (B, M) bool, True = padding.
        image_index: (B,) long, the image of each prompt.

    Returns:
        (B, M, B, M) bool. Boxes of one prompt show one concept and are not told apart; nor are boxes that
        overlap on one image.
    """
    prompts = torch.arange(len(padding), device=padding.device)
    apart = prompts[:, None] != prompts[None]  # (B, B)
    same_image = image_index[:, None] == image_index[None]  # (B, B)
    overlap, _ = box_overlap(boxes_cxcywh[:, :, None, None], boxes_cxcywh[None, None])  # (B, M, B, M)
    same = same_image[:, None, :, None] & (overlap > SAME_OBJECT)
    real = ~padding[:, :, None, None] & ~padding[None, None]
    return apart[:, None, :, None] & real & ~same


def roi_distillation(predicted: Tensor, teacher: Tensor, padding: Tensor) -> Tensor:
    """Teach tokens to tell the frozen vision encoder's mean feature under their box.

    Args:
        predicted: (B, M, D), a linear projection of the exemplar tokens.
        teacher: (B, M, D); gets no gradient.
        padding: (B, M) bool, True = padding.

    Returns:
        Scalar, mean squared error over boxes and channels; 0 without boxes.

    Raises:
        ShapeError: the sizes disagree.
    """
    if predicted.shape != teacher.shape or predicted.shape[:2] != padding.shape:
        raise ShapeError(
            f"predicted {tuple(predicted.shape)}, teacher {tuple(teacher.shape)} and padding "
            f"{tuple(padding.shape)} do not fit; they are (B, M, D) twice and (B, M)"
        )
    real = ~padding[..., None]
    difference = (_precise(predicted) - _precise(teacher.detach())).masked_fill(~real, 0.0)
    return _mean_where(difference.square().mean(-1), ~padding)


@torch.no_grad()
def _draw_negatives(matches: Tensor, tokens: int, negatives: int, image_index: Tensor | None) -> Tensor:
    """(B, tokens) bool: up to `negatives` image tokens per prompt that no exemplar of its image sits on."""
    pairs = matches.shape[0]
    taken = matches.new_zeros(pairs, tokens + 1)
    # Padding, -1, lands in a last column that is cut off.
    taken = taken.scatter(1, torch.where(matches < 0, tokens, matches), 1)[:, :tokens]
    if image_index is not None:
        same_image = image_index[:, None] == image_index[None]
        taken = same_image.to(torch.float32) @ taken.to(torch.float32)
    free = taken == 0
    chance = torch.rand(pairs, tokens, device=matches.device).masked_fill(~free, -1.0)
    chosen = chance.topk(min(negatives, tokens), dim=1).indices
    return torch.zeros_like(free).scatter(1, chosen, True) & free


def _told_apart(own: Tensor, logits: Tensor, given: Tensor, others: Tensor, form: ContrastiveForm) -> Tensor:
    """The contrastive loss of logits (..., K) with those of the own ones (...), over all that are given."""
    if form == "info_nce":
        against = logits.masked_fill(~others, float("-inf"))
        all_logits = torch.cat((own[..., None], against), dim=-1)  # (..., 1 + K)
        return _mean_where(all_logits.logsumexp(-1) - own, given)
    return (_mean_where(F.softplus(-own), given) + _mean_where(F.softplus(logits), others)) / 2


def _under_boxes(features: Tensor, image_index: Tensor, boxes_cxcywh: Tensor) -> Tensor:
    """(B, M, D), the mean image feature under each box."""
    return pool_regions(features, image_index, boxes_cxcywh, ROI_SIZE).mean((3, 4))


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where none is; the others get no gradient."""
    return values.masked_fill(~chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def _precise(x: Tensor) -> Tensor:
    """Cosines of half precision would be off by more than the temperature forgives."""
    return x if x.dtype == torch.float64 else x.float()
