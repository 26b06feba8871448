"""What the model finds in an image that its labels do not have yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from conceptseg.dedupe import SAME_OBJECT_IOU
from conceptseg.formats import clipped_boxes
from conceptseg.result import Result
from conceptseg.review.decisions import Object

LEAST_SCORE = 0.1  # before presence: whoever asks has seen something
MOST = 50
SAME_BOX_IOU = 0.3  # of a box that was drawn around an object, and the object's own


@dataclass(frozen=True)
class Suggestion:
    """An object that may be added."""

    object: Object  # without a key
    wanted: bool  # most likely it is what was asked for


def suggestions(
    result: Result,
    phrase: int,
    labelled: Sequence[Object],
    boxes: Sequence[Sequence[float]],
    threshold: float,
) -> list[Suggestion]:
    """Args:
    result: the answer to one phrase.
    phrase: the place of the phrase that objects are to be labelled with.
    labelled: objects that are there; masks that overlap one of them by more than half (intersection over
        union) are left out.
    boxes: that were drawn as examples, x0 y0 x1 y1; for each the object that fits it best is wanted.
    threshold: without boxes, objects with class scores above it are wanted.
    """
    masks = result.compact_masks.rles()
    size = list(result.image_size)
    if labelled and masks:
        there = [{"size": size, "counts": one.counts.encode()} for one in labelled]
        overlap = coco_mask.iou(masks, there, [0] * len(there)).max(axis=1)
    else:
        overlap = np.zeros(len(masks))
    rows = [row for row in range(len(masks)) if overlap[row] <= SAME_OBJECT_IOU]
    corners = clipped_boxes(result)[rows]
    corner_and_size = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
    areas = result.compact_masks.areas()
    scores = result.class_scores[rows]
    wanted = set() if boxes else set(np.flatnonzero(scores > threshold).tolist())
    for x0, y0, x1, y1 in boxes if rows else ():
        fit = coco_mask.iou(corner_and_size, np.array([[x0, y0, x1 - x0, y1 - y0]]), [0])[:, 0]
        if fit.max() > SAME_BOX_IOU:
            wanted.add(int(fit.argmax()))
    return [
        Suggestion(
            Object(
                key=0,
                phrase=phrase,
                bbox=tuple(corner_and_size[number].round(3).tolist()),
                area=int(areas[row]),
                counts=masks[row]["counts"].decode("ascii"),
                score=round(float(scores[number]), 6),
                added=True,
            ),
            number in wanted,
        )
        for number, row in enumerate(rows)
    ]
