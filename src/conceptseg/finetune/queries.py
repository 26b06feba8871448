"""More object queries, for images that show more objects than the model was made for.

A query answers for one object, so a model of 100 queries cannot find 140 nuclei, and long before that its
queries lie too far apart: of several objects near one query, one is found. The new queries start on a grid,
each as a copy of the old query that looks at the same place, with a box of the size of the data's objects.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from conceptseg.models.boxes import inverse_sigmoid
from conceptseg.models.build import build_detector
from conceptseg.models.detector import Detector


def with_more_queries(detector: Detector, count: int, side: float) -> Detector:
    """The same detector with more queries; the old ones come first and stay as they are.

    Args:
        detector: on the CPU.
        count: queries in the end; not above what it has gives the detector itself.
        side: of the new queries' boxes, as a share of the image's.
    """
    old = detector.config.decoder.queries
    if count <= old:
        return detector
    decoder = dataclasses.replace(detector.config.decoder, queries=count)
    larger = build_detector(dataclasses.replace(detector.config, decoder=decoder))
    boxes = grid_boxes(count - old, side)
    state = dict(detector.state_dict())
    reference, embedding = state["decoder.reference_points"], state["decoder.query_embedding"]
    distance = (boxes[:, None] - reference.sigmoid()[None]).abs().sum(-1)  # (count - old, old)
    state["decoder.reference_points"] = torch.cat([reference, inverse_sigmoid(boxes)])
    state["decoder.query_embedding"] = torch.cat([embedding, embedding[distance.argmin(1)]])
    larger.load_state_dict(state)
    return larger.train(detector.training)


def grid_boxes(count: int, side: float) -> Tensor:
    """(count, 4) cxcywh: centres spread evenly over the image, as square a grid as the number allows."""
    rows = max(1, round(math.sqrt(count)))
    boxes = []
    for row in range(rows):
        columns = (row + 1) * count // rows - row * count // rows
        boxes += [[(column + 0.5) / columns, (row + 0.5) / rows, side, side] for column in range(columns)]
    return torch.tensor(boxes)
