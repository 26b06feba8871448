"""What the two encoders of a model say of the same boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject
from conceptseg.images import load_image
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.exemplar.encoder import pool_regions
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.segmenter import Segmenter

CELLS = 7  # per side of the patch under a box, as in the spec of ROI distillation
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxTokens:
    """n boxes; float64, on the CPU."""

    tokens: NDArray[np.float64]  # (n, D), the exemplar encoder's, each box asked alone
    closing: NDArray[np.float64]  # (n, D), the token that closes each prompt
    cells: NDArray[np.float64]  # (n, CELLS * CELLS, D), image features under each box

    @property
    def pooled(self) -> NDArray[np.float64]:
        """(n, D), the mean of the cells."""
        mean: NDArray[np.float64] = self.cells.mean(1)
        return mean


def read_boxes(segmenter: Segmenter, pixels: NDArray[np.uint8], boxes_xyxy: Sequence[Box]) -> BoxTokens:
    """Encode a picture, and each of these boxes on it as the only positive example."""
    device = segmenter.device
    with segmenter.inference():
        image = segmenter.encode_pixels([load_image(pixels)])
        boxes = pixels_to_cxcywh(boxes_xyxy, pixels.shape[:2])[:, None].to(device)  # (n, 1, 4)
        index = torch.zeros(len(boxes), dtype=torch.long, device=device)
        labels = torch.ones(len(boxes), 1, dtype=torch.long, device=device)
        made = segmenter.detector.encode_exemplars(image, GeometricPrompt(boxes, labels), index)
        regions = pool_regions(image.levels[-1], index, boxes, CELLS)  # (n, 1, D, r, r)
    return BoxTokens(
        tokens=made.tokens[0].double().cpu().numpy(),
        closing=made.tokens[-1].double().cpu().numpy(),
        cells=regions[:, 0].flatten(2).transpose(1, 2).double().cpu().numpy(),
    )


def read_examples(
    segmenter: Segmenter, images: Sequence[ShownImage], examples: Sequence[tuple[int, ShownObject]]
) -> BoxTokens:
    """Every chosen example, in order; examples of one image stand together."""
    parts: list[BoxTokens] = []
    for number in dict.fromkeys(number for number, _ in examples):
        boxes = [it.box_xyxy for image, it in examples if image == number]
        parts.append(read_boxes(segmenter, images[number].pixels, boxes))
    return BoxTokens(
        tokens=np.concatenate([part.tokens for part in parts]),
        closing=np.concatenate([part.closing for part in parts]),
        cells=np.concatenate([part.cells for part in parts]),
    )
