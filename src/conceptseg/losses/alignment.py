"""Exemplars meet the image: an example's token is pulled towards what the vision encoder sees under its box.

Two losses, alone or together. Contrastive: token and image token through one shared projection, in the
log-sigmoid form of SigLIP (Zhai et al. 2023, arXiv:2303.15343) or as InfoNCE (van den Oord et al. 2018,
arXiv:1807.03748). ROI distillation: from the token alone, tell the mean feature under its box, that of the
model's own vision encoder or of a teacher's.

    exemplar tokens (B, M, D) ─> shared projection ─┐
    image tokens (B, HW, D) ───> shared projection ─┴─> cosine / temperature
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.errors import ConfigError, ShapeError
from conceptseg.models.exemplar.encoder import pool_regions
from conceptseg.models.layers.mlp import MLP

ContrastiveForm: TypeAlias = Literal["none", "sigmoid", "info_nce"]
CONTRASTIVE, DISTILLATION = "exemplar_contrastive", "exemplar_distillation"
ROI_SIZE = 7  # of the teacher's patch


@dataclass(frozen=True)
class AlignmentConfig:
    """Which alignment losses there are; both may be switched off."""

    contrastive: ContrastiveForm = "sigmoid"
    distillation: bool = True
    temperature: float = 0.1
    negatives: int = 64  # image tokens per prompt that an exemplar is told apart from

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
        self.projection = MLP(width, width // 2, width, 2) if self.config.contrastive != "none" else None
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
        losses: dict[str, Tensor] = {}
        if self.projection is not None and self.config.contrastive != "none":
            image = features.flatten(2).transpose(1, 2)  # (I, HW, D)
            losses[CONTRASTIVE] = contrastive_alignment(
                self.projection(given),
                self.projection(image)[image_index],
                tokens_under_boxes(boxes_cxcywh, padding, (features.shape[2], features.shape[3])),
                temperature=self.config.temperature,
                negatives=self.config.negatives,
                form=self.config.contrastive,
                image_index=image_index,
            )
        told = taught if self.taught else features
        if self.to_teacher is not None and told is not None:
            boxes = torch.where(padding[..., None], torch.full_like(boxes_cxcywh, 0.5), boxes_cxcywh).float()
            teacher = pool_regions(told.detach(), image_index, boxes, ROI_SIZE).mean((3, 4))  # (B, M, D)
            losses[DISTILLATION] = roi_distillation(self.to_teacher(given), teacher, padding)
        return losses


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
    if form == "info_nce":
        against = logits.masked_fill(~others, float("-inf"))
        all_logits = torch.cat((own[..., None], against), dim=-1)  # (B, M, 1 + HW)
        return _mean_where(all_logits.logsumexp(-1) - own, given)
    return (_mean_where(F.softplus(-own), given) + _mean_where(F.softplus(logits), others)) / 2


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


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where none is; the others get no gradient."""
    return values.masked_fill(~chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def _precise(x: Tensor) -> Tensor:
    """Cosines of half precision would be off by more than the temperature forgives."""
    return x if x.dtype == torch.float64 else x.float()
