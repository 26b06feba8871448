"""What a box says before anybody looks under it: like this or not like this, where, and how large."""

from __future__ import annotations

from torch import Tensor, nn

from conceptseg.models.exemplar.encoder import ExampleBoxes
from conceptseg.models.layers.positions import sine_of_exemplar_boxes


class BoxEmbedding(nn.Module):
    """Label, plain coordinates and their sine encoding; three of the four parts of the released box token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.label_embedding = nn.Embedding(2, width)
        self.coordinates = nn.Linear(4, width)
        self.position = nn.Linear(width + 2, width)

    def forward(self, boxes: ExampleBoxes) -> Tensor:
        """M boxes of B prompts -> (B, M, D)."""
        dtype = self.coordinates.weight.dtype
        sine = sine_of_exemplar_boxes(boxes.boxes_cxcywh, self.width)  # (B, M, D + 2)
        where = self.coordinates(boxes.boxes_cxcywh.to(dtype)) + self.position(sine.to(dtype))
        return self.label_embedding(boxes.labels) + where
