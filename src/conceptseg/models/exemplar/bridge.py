"""Exemplar and image joined at three levels, each reading the one before; their learned mean comes out.

Early: the token of a box and the mean image feature under it are joined and projected. Middle: the result
attends to all image tokens. Late: a coordinator moves each side towards the other and mixes them by a gate.
Levels may be left out; the next one then reads what the last one before it gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from conceptseg.models.config import BRIDGE_JOINTS
from conceptseg.models.exemplar.boxes_only import BoxesOnlyEncoder
from conceptseg.models.exemplar.closing import Closing
from conceptseg.models.exemplar.encoder import (
    ExampleBoxes,
    ExemplarTrace,
    image_tokens,
    normalise_map,
    pool_regions,
)
from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import MLP, FeedForward


class BridgedEncoder(BoxesOnlyEncoder):
    kind = "bridge"

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        roi_size: int = 7,
        dropout: float = 0.0,
        joints: Sequence[str] = BRIDGE_JOINTS,
    ) -> None:
        super().__init__(width, roi_size)
        self.pooling_norm = nn.LayerNorm(width)
        self.box_features = nn.Conv2d(width, width, roi_size)
        self.early = nn.Linear(2 * width, width) if "early" in joints else None
        self.middle = (
            nn.ModuleList(BridgeLayer(width, heads, mlp_width, dropout) for _ in range(layers))
            if "middle" in joints
            else None
        )
        self.late = Coordinator(width) if "late" in joints else None
        self.level_logits = nn.Parameter(torch.zeros(len(joints)))
        self.closing = Closing(width, 1, heads, mlp_width, dropout)

    def trace_boxes(
        self, features: Tensor, positions: Tensor, image_index: Tensor, boxes: ExampleBoxes
    ) -> ExemplarTrace:
        pooled_from = normalise_map(features, self.pooling_norm)  # (I, D, h, w)
        regions = pool_regions(pooled_from, image_index, boxes.boxes_cxcywh, self.roi_size)  # (B, M, D, r, r)
        patch = self.box_features(regions.flatten(0, 1)).reshape(regions.shape[:3])  # (B, M, D)
        visual = regions.mean((3, 4))  # (B, M, D)
        x, gate, levels = patch + self.box_embedding(boxes), None, []  # each (B, M, D)
        if self.early is not None:
            x = self.early(torch.cat((x, visual.to(x.dtype)), dim=-1))
            levels.append(x)
        if self.middle is not None:
            image, place = image_tokens(pooled_from, positions, image_index)  # (B, HW, D), (HW, D)
            if x.shape[1]:  # attention without any query is not defined everywhere
                for layer in self.middle:
                    x = layer(x, image, image + place)
            levels.append(x)
        if self.late is not None:
            x, gate = self.late(x, visual.to(x.dtype))
            levels.append(x)

        weights = self.level_logits.softmax(0)  # (levels,)
        mean = (torch.stack(levels, dim=-1) * weights.to(x.dtype)).sum(-1)  # (B, M, D)
        return ExemplarTrace(self.closing(mean, boxes.padding), gate=gate, level_weights=weights)


class BridgeLayer(nn.Module):
    """Exemplar tokens attend to image tokens; norms come first."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, mlp_width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, image: Tensor, image_with_position: Tensor) -> Tensor:
        """(B, M, D) and twice (B, HW, D) -> (B, M, D)."""
        x = x + self.attention(self.norm1(x), image_with_position, image)
        return x + self.feed_forward(self.norm2(x))


class Coordinator(nn.Module):
    """Adapts exemplar and image feature towards each other and mixes them, channel by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.adapt_exemplar = MLP(width, width // 2, width, 2)
        self.adapt_visual = MLP(width, width // 2, width, 2)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, exemplar: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Two sides (B, M, D) -> their mixture and the share of the exemplar's side, both (B, M, D)."""
        towards_visual = exemplar + self.adapt_exemplar(exemplar)
        towards_exemplar = visual + self.adapt_visual(visual)
        gate = self.gate(torch.cat((towards_visual, towards_exemplar), dim=-1)).sigmoid()
        return gate * towards_visual + (1 - gate) * towards_exemplar, gate
