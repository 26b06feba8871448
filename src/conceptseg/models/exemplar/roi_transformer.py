"""The baseline encoder: a small transformer over the patch under each box, and nothing outside it.

Each box becomes a sequence: one token of its label and place, then the cells of the patch that is pooled from
under it. The first token reads the cells and is the box's prompt token. Unlike the released form, it sees
neither the rest of the image nor, before the closing layer, the other boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conceptseg.models.exemplar.boxes_only import BoxesOnlyEncoder
from conceptseg.models.exemplar.closing import Closing, SelfAttentionLayer
from conceptseg.models.exemplar.encoder import (
    ExampleBoxes,
    ExemplarTrace,
    normalise_map,
    pool_regions,
)
from conceptseg.models.layers.positions import sine_of_map


class RoiTransformerEncoder(BoxesOnlyEncoder):
    kind = "roi_transformer"

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, roi_size: int = 7, dropout: float = 0.0
    ) -> None:
        super().__init__(width, roi_size)
        self.pooling_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(width, heads, mlp_width, dropout) for _ in range(layers)
        )
        self.closing = Closing(width, 1, heads, mlp_width, dropout)

    def trace_boxes(
        self, features: Tensor, positions: Tensor, image_index: Tensor, boxes: ExampleBoxes
    ) -> ExemplarTrace:
        pooled_from = normalise_map(features, self.pooling_norm)  # (I, D, h, w)
        regions = pool_regions(pooled_from, image_index, boxes.boxes_cxcywh, self.roi_size)
        place = sine_of_map(self.roi_size, self.roi_size, features.shape[1], features.device)
        cells = (
            (regions + place.to(regions.dtype)).flatten(3).flatten(0, 1).transpose(1, 2)
        )  # (B * M, r * r, D)
        head = self.box_embedding(boxes)  # (B, M, D)
        x = torch.cat((head.flatten(0, 1)[:, None], cells.to(head.dtype)), dim=1)  # (B * M, 1 + r * r, D)
        for layer in self.layers:
            x = layer(x)
        return ExemplarTrace(self.closing(x[:, 0].reshape(head.shape), boxes.padding))
