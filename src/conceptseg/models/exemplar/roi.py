"""The released exemplar encoder ("geometry encoder"): boxes and points on the image -> prompt tokens.

Each box becomes the sum of four views of it: its label, its coordinates, the image features under it
(ROIAlign, then one convolution over the whole patch) and a position encoding. A learned summary token ("CLS")
closes the sequence; without any box or point it stands alone, and it is always part of the prompt. A small
transformer lets the tokens read each other and the image. Source: reference facts of the official geometry
encoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.exemplar.encoder import (
    ExemplarEncoder,
    ExemplarTrace,
    example_boxes,
    normalise_map,
    pool_regions,
)
from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import FeedForward
from conceptseg.models.layers.positions import sine_of_exemplar_boxes, sine_of_points
from conceptseg.models.prompts import GeometricPrompt, PromptTokens, join_prompts


class RoiExemplarEncoder(ExemplarEncoder):
    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, roi_size: int = 7, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.width = width
        self.roi_size = roi_size
        self.label_embedding = nn.Embedding(2, width)
        self.summary_token = nn.Parameter(torch.empty(1, width))
        self.point_coordinates = nn.Linear(2, width)
        self.point_features = nn.Linear(width, width)
        self.point_position = nn.Linear(width, width)
        self.box_coordinates = nn.Linear(4, width)
        self.box_features = nn.Conv2d(width, width, roi_size)
        self.box_position = nn.Linear(width + 2, width)
        self.pooling_norm = nn.LayerNorm(width)
        self.input_projection = nn.Linear(width, width)
        self.input_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(ExemplarLayer(width, heads, mlp_width, dropout) for _ in range(layers))
        self.output_norm = nn.LayerNorm(width)
        nn.init.normal_(self.summary_token, std=0.02)

    def trace(
        self, features: Tensor, positions: Tensor, image_index: Tensor, prompt: GeometricPrompt | None
    ) -> ExemplarTrace:
        pairs = image_index.shape[0]
        pooled_from = normalise_map(features, self.pooling_norm)  # (I, D, h, w)
        sequence = self._summary(pairs)
        if prompt is not None and prompt.boxes_cxcywh is not None:
            sequence = join_prompts(self._boxes(pooled_from, image_index, prompt), sequence)
        if prompt is not None and prompt.points_xy is not None:
            sequence = join_prompts(self._points(pooled_from, image_index, prompt), sequence)

        x = self.input_norm(self.input_projection(sequence.tokens)).transpose(0, 1)  # (B, S, D)
        # The layers read the raw image tokens; only pooling reads the normalised ones.
        image = features.flatten(2).transpose(1, 2)[image_index]  # (B, HW, D)
        image_position = positions.flatten(1).t().to(image.dtype)  # (HW, D)
        for layer in self.layers:
            x = layer(x, sequence.padding_mask, image, image + image_position)
        return ExemplarTrace(PromptTokens(self.output_norm(x).transpose(0, 1), sequence.padding_mask))

    def _summary(self, pairs: int) -> PromptTokens:
        token = self.summary_token[:, None].expand(-1, pairs, -1)  # (1, B, D)
        return PromptTokens(token, torch.zeros(pairs, 1, dtype=torch.bool, device=token.device))

    def _boxes(self, pooled_from: Tensor, image_index: Tensor, prompt: GeometricPrompt) -> PromptTokens:
        given = example_boxes(prompt, image_index.shape[0], pooled_from.device)
        boxes, dtype = given.boxes_cxcywh, self.box_coordinates.weight.dtype
        regions = pool_regions(pooled_from, image_index, boxes, self.roi_size)  # (B, M, D, roi, roi)
        tokens = (
            self.label_embedding(given.labels)
            + self.box_coordinates(boxes.to(dtype))
            + self.box_features(regions.flatten(0, 1)).reshape(regions.shape[:3])
            + self.box_position(sine_of_exemplar_boxes(boxes, self.width).to(dtype))
        )
        return PromptTokens(tokens.transpose(0, 1), given.padding)

    def _points(self, pooled_from: Tensor, image_index: Tensor, prompt: GeometricPrompt) -> PromptTokens:
        assert prompt.points_xy is not None and prompt.point_labels is not None
        points, labels = prompt.points_xy.float(), prompt.point_labels
        padding = prompt.point_padding
        if padding is None:
            padding = torch.zeros_like(labels, dtype=torch.bool)
        grid = (points * 2 - 1)[:, :, None]  # (B, P, 1, 2)
        sampled = F.grid_sample(pooled_from.float()[image_index], grid, align_corners=False)  # (B, D, P, 1)
        tokens = (
            self.label_embedding(labels.masked_fill(padding, 0))
            + self.point_coordinates(points.to(pooled_from.dtype))
            + self.point_features(sampled[..., 0].transpose(1, 2).to(pooled_from.dtype))
            + self.point_position(sine_of_points(points, self.width).to(pooled_from.dtype))
        )
        return PromptTokens(tokens.transpose(0, 1), padding)


class ExemplarLayer(nn.Module):
    """Self-attention, attention into the image, feed-forward; norms come first."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.image_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, mlp_width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding_mask: Tensor, image: Tensor, image_with_position: Tensor) -> Tensor:
        n = self.norm1(x)
        x = x + self.dropout(self.self_attention(n, n, n, key_padding_mask=padding_mask))
        x = x + self.dropout(self.image_attention(self.norm2(x), image_with_position, image))
        return x + self.dropout(self.feed_forward(self.norm3(x)))
