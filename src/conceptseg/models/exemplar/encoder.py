"""What every exemplar encoder is: example boxes on the image in, prompt tokens out.

    encoder(features, positions, image_index, prompt)        # PromptTokens (M + 1, B, D)
    encoder.trace(features, positions, image_index, prompt)  # the same, and what it looked at on the way

The last token is the closing one; without any box it stands alone. `roi` is the released form, and the only
one that takes points; the others refuse them. None takes masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.prompts import GeometricPrompt, PromptTokens


@dataclass
class ExemplarTrace:
    """Tokens, and what an encoder did to make them; None where its kind has no such part."""

    tokens: PromptTokens  # (P + M + 1, B, D)
    gate: Tensor | None = None  # (B, M, D) in 0..1, share of the exemplar's side; the rest is the image's
    level_weights: Tensor | None = None  # (levels,) share of the early, middle, late level; sums to 1
    branch_weights: Tensor | None = None  # (B, M, kernels) share of each kernel, small to large; sums to 1
    context: Tensor | None = None  # (B, M, h, w) which image tokens each box picks; sums to 1 over the map


class ExemplarEncoder(nn.Module):
    """Base of all kinds."""

    def forward(
        self, features: Tensor, positions: Tensor, image_index: Tensor, prompt: GeometricPrompt | None
    ) -> PromptTokens:
        """Encode what the user drew.

        Args:
            features: (I, D, h, w), the level that the detector reads.
            positions: (D, h, w), its position encoding.
            image_index: (B,) long, the image of each prompt.
            prompt: boxes (and points, for `roi`) of B prompts, or None for none.

        Returns:
            tokens (P + M + 1, B, D): points, boxes, closing token.
        """
        return self.trace(features, positions, image_index, prompt).tokens

    def trace(
        self, features: Tensor, positions: Tensor, image_index: Tensor, prompt: GeometricPrompt | None
    ) -> ExemplarTrace:
        """As `forward`, with what a figure can show."""
        raise NotImplementedError


@dataclass
class ExampleBoxes:
    """The boxes of B prompts, padded to M; M may be 0."""

    boxes_cxcywh: Tensor  # (B, M, 4) float32 in 0..1; padding holds the whole image
    labels: Tensor  # (B, M) long, 1 like this, 0 not like this; padding holds 0
    padding: Tensor  # (B, M) bool, True = padding


def example_boxes(prompt: GeometricPrompt | None, pairs: int, device: torch.device) -> ExampleBoxes:
    """The boxes of B prompts as tensors that are always there, whatever their padding held."""
    if prompt is None or prompt.boxes_cxcywh is None or prompt.box_labels is None:
        none = torch.zeros(pairs, 0, dtype=torch.long, device=device)
        return ExampleBoxes(torch.zeros(pairs, 0, 4, device=device), none, none.bool())
    labels = prompt.box_labels
    padding = torch.zeros_like(labels, dtype=torch.bool) if prompt.box_padding is None else prompt.box_padding
    # A box to pool from all the same: attention leaves its token out, but NaN times zero would stay NaN.
    whole = torch.tensor([0.5, 0.5, 1.0, 1.0], device=device)
    boxes = torch.where(padding[..., None], whole, prompt.boxes_cxcywh.float())
    return ExampleBoxes(boxes, labels.masked_fill(padding, 0), padding)


def pool_regions(features: Tensor, image_index: Tensor, boxes_cxcywh: Tensor, size: int) -> Tensor:
    """ROIAlign of each prompt's image at its boxes.

    Pooled in float32, not clamped to the image, without half-a-pixel alignment: as in the released encoder.

    Args:
        features: (I, D, h, w).
        image_index: (B,) long.
        boxes_cxcywh: (B, M, 4) float32 in 0..1.
        size: cells per side.

    Returns:
        (B, M, D, size, size), in the number type of the features.
    """
    from torchvision.ops import roi_align  # a second and 170 MB, which a phrase does without

    pairs, count = boxes_cxcywh.shape[:2]
    height, width = features.shape[-2:]
    to_grid = torch.tensor(
        [width, height, width, height], dtype=boxes_cxcywh.dtype, device=boxes_cxcywh.device
    )
    corners = (cxcywh_to_xyxy(boxes_cxcywh) * to_grid).flatten(0, 1)  # (B * M, 4) in tokens
    owner = image_index[:, None].expand(-1, count).flatten()  # (B * M,)
    boxes_of_images = torch.cat((owner[:, None].to(corners.dtype), corners), dim=1)
    regions = roi_align(features.float(), boxes_of_images, output_size=size)  # (B * M, D, size, size)
    return regions.reshape(pairs, count, features.shape[1], size, size).to(features.dtype)


def normalise_map(features: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A layer norm over the channels of (I, D, h, w)."""
    return norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_tokens(features: Tensor, positions: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
    """Each prompt's image as a sequence: (B, HW, D), and (HW, D) where its tokens lie."""
    image = features.flatten(2).transpose(1, 2)[image_index]  # (B, HW, D)
    return image, positions.flatten(1).t().to(image.dtype)
