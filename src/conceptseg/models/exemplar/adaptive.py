"""An encoder that adapts to its example: to the box's size, and to what surrounds it.

Scale adaptor: the box decides how much a small, a middle and a large kernel count. Context selector: the box
picks the image tokens around it that matter. Feature modulator: what was picked scales and shifts the token.
With `context=False` the last two are left out, and a token says only what lies in its box. Each may be left
out alone, too: without kernels the patch is averaged as it is, without the selector the context is the mean
of the image, and without the modulator it is added to the token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.exemplar.boxes_only import BoxesOnlyEncoder
from conceptseg.models.exemplar.closing import Closing
from conceptseg.models.exemplar.encoder import (
    ExampleBoxes,
    ExemplarTrace,
    image_tokens,
    normalise_map,
    pool_regions,
)
from conceptseg.models.layers.mlp import MLP


class AdaptiveEncoder(BoxesOnlyEncoder):
    kind = "adaptive"

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        roi_size: int = 7,
        dropout: float = 0.0,
        context: bool = True,
        kernels: Sequence[int] = (3, 5, 7),
        selector: bool = True,
        modulator: bool = True,
    ) -> None:
        super().__init__(width, roi_size)
        self.context = context
        self.pooling_norm = nn.LayerNorm(width)
        self.scale_adaptor = ScaleAdaptor(width, kernels) if kernels else None
        self.context_selector = ContextSelector(width) if context and selector else None
        self.modulator = FeatureModulator(width) if context and modulator else None
        self.closing = Closing(width, layers, heads, mlp_width, dropout)

    def trace_boxes(
        self, features: Tensor, positions: Tensor, image_index: Tensor, boxes: ExampleBoxes
    ) -> ExemplarTrace:
        pooled_from = normalise_map(features, self.pooling_norm)  # (I, D, h, w)
        regions = pool_regions(pooled_from, image_index, boxes.boxes_cxcywh, self.roi_size)  # (B, M, D, r, r)
        patch, shares = regions.mean((3, 4)), None  # (B, M, D)
        if self.scale_adaptor is not None:
            patch, shares = self.scale_adaptor(regions, boxes.boxes_cxcywh)  # (B, M, D), (B, M, kernels)
        x = patch + self.box_embedding(boxes)
        picked: Tensor | None = None
        if self.context:
            image, place = image_tokens(pooled_from, positions, image_index)  # (B, HW, D), (HW, D)
            if self.context_selector is None:
                context = image.mean(1, keepdim=True).expand_as(x)
            else:
                chosen = self.context_selector(x, image, place, boxes.boxes_cxcywh, features.shape[-2:])
                context, picked = chosen
            x = x + context if self.modulator is None else self.modulator(x, context)
        return ExemplarTrace(self.closing(x, boxes.padding), branch_weights=shares, context=picked)


class ScaleAdaptor(nn.Module):
    """Depthwise convolutions over the patch, weighed by the box; a pointwise one; the mean of all."""

    def __init__(self, width: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.weigh = MLP(4, 32, len(kernels), 2)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width) for kernel in kernels
        )
        self.pointwise = nn.Conv2d(width, width, 1)

    def forward(self, regions: Tensor, boxes_cxcywh: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, D, r, r) and (B, M, 4) -> (B, M, D) and the weights of the branches (B, M, kernels)."""
        dtype = self.pointwise.weight.dtype
        weights = self.weigh(boxes_cxcywh.to(dtype)).softmax(-1)  # (B, M, 3)
        x = regions.flatten(0, 1)  # (B * M, D, r, r)
        branches = torch.stack([branch(x) for branch in self.branches], dim=1)  # (B * M, kernels, D, r, r)
        mixed = (branches * weights.flatten(0, 1)[:, :, None, None, None]).sum(1)
        x = x + self.pointwise(F.relu(mixed))
        return x.mean((2, 3)).reshape(regions.shape[:3]), weights


class ContextSelector(nn.Module):
    """Soft choice of image tokens: those that answer the box, the nearer the likelier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        # The logit falls by this (through a softplus) with each box size of distance from the box's edge.
        self.decay = nn.Parameter(torch.zeros(()))

    def forward(
        self, x: Tensor, image: Tensor, place: Tensor, boxes_cxcywh: Tensor, size_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What matters around each box.

        Args:
            x: (B, M, D).
            image: (B, HW, D).
            place: (HW, D).
            boxes_cxcywh: (B, M, 4).
            size_hw: of the map.

        Returns:
            (B, M, D), and the choice (B, M, h, w), which sums to 1 over the map.
        """
        answers = (
            self.query(x) @ self.key(image + place).transpose(1, 2) / math.sqrt(x.shape[-1])
        )  # (B, M, HW)
        far = _sizes_away(boxes_cxcywh, size_hw)  # (B, M, HW)
        weights = (answers.float() - F.softplus(self.decay.float()) * far).softmax(-1)
        context = weights.to(image.dtype) @ self.value(image)  # (B, M, D)
        return context, weights.unflatten(-1, (size_hw[0], size_hw[1]))


class FeatureModulator(nn.Module):
    """Scale and shift of each channel, read from the context."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = MLP(width, width // 2, 2 * width, 2)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.read(context).chunk(2, dim=-1)
        return x * (1 + scale) + shift


def _sizes_away(boxes_cxcywh: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """How many box sizes each cell's centre lies outside each box, (B, M, HW); 0 inside."""
    height, width = size_hw
    device = boxes_cxcywh.device
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    cx, cy, w, h = (side[..., None] for side in boxes_cxcywh.unbind(-1))  # (B, M, 1)
    # No box is smaller than a cell here, or a thin one would have no surroundings at all.
    across = ((x - cx).abs() / w.clamp(min=1 / width) - 0.5).clamp(min=0)  # (B, M, w)
    down = ((y - cy).abs() / h.clamp(min=1 / height) - 0.5).clamp(min=0)  # (B, M, h)
    return torch.maximum(down[..., :, None], across[..., None, :]).flatten(2)
