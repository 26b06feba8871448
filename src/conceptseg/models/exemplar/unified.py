"""One encoder for the scene and for the instance: exemplar tokens are made of the image features themselves.

The shared encoder is the detector's own, run once per image (`Detector.encode_images`); here its features are
reused for each box: region processor -> context fusion -> refiner. What the region processor adds to the mean
feature under the box is a correction, so a token starts where the image tokens are.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.exemplar.boxes_only import BoxesOnlyEncoder
from conceptseg.models.exemplar.closing import Closing
from conceptseg.models.exemplar.encoder import (
    ExampleBoxes,
    ExemplarTrace,
    image_tokens,
    pool_regions,
)
from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import FeedForward


class UnifiedEncoder(BoxesOnlyEncoder):
    kind = "unified"

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, roi_size: int = 7, dropout: float = 0.0
    ) -> None:
        super().__init__(width, roi_size)
        self.region_processor = RegionProcessor(width)
        self.context_fusion = nn.ModuleList(ContextFusion(width, heads, dropout) for _ in range(layers))
        self.refiner = Closing(width, 1, heads, mlp_width, dropout)

    def trace_boxes(
        self, features: Tensor, positions: Tensor, image_index: Tensor, boxes: ExampleBoxes
    ) -> ExemplarTrace:
        regions = pool_regions(features, image_index, boxes.boxes_cxcywh, self.roi_size)  # (B, M, D, r, r)
        x = self.region_processor(regions) + self.box_embedding(boxes)  # (B, M, D)
        image, place = image_tokens(features, positions, image_index)
        if x.shape[1]:  # attention without any query is not defined everywhere
            for layer in self.context_fusion:
                x = layer(x, image, image + place)
        return ExemplarTrace(self.refiner(x, boxes.padding))


class RegionProcessor(nn.Module):
    """Two 3 x 3 convolutions over the patch, added to it; then the mean over its cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, regions: Tensor) -> Tensor:
        """(B, M, D, r, r) -> (B, M, D)."""
        x = regions.flatten(0, 1)
        x = x + self.conv2(F.relu(self.conv1(x)))  # (B * M, D, r, r)
        return x.mean((2, 3)).reshape(regions.shape[:3])


class ContextFusion(nn.Module):
    """Exemplars read the image: attention, residual, norm, feed-forward of four times the width, the same."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, 4 * width, dropout)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, image: Tensor, image_with_position: Tensor) -> Tensor:
        """(B, M, D) and twice (B, HW, D) -> (B, M, D)."""
        x = self.norm1(x + self.attention(x, image_with_position, image))
        return self.norm2(x + self.feed_forward(x))
