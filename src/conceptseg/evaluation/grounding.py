"""Does the model tell the objects that were asked for from the other objects of the same image?

Cut free from finding and from presence: of the queries that lie on objects, those on asked ones should score
higher. 0.5 is chance. A detector can find and mask everything and still be at chance here; cgF1 shows that
only late, and mixed with all else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conceptseg.losses.boxes import box_overlap


def in_scene_auroc(
    class_logits: Tensor,
    boxes_cxcywh: Tensor,
    asked: list[Tensor],
    others: list[Tensor],
    least_iou: float = 0.5,
) -> list[float]:
    """One figure for each pair in which asked and other objects were both found.

    Args:
        class_logits: (N, B) of the last layer.
        boxes_cxcywh: (N, B, 4) in 0..1.
        asked: for each pair, (G, 4) boxes of the objects that the prompt means.
        others: for each pair, (K, 4) boxes of the image's other objects.
        least_iou: an object counts as found when some query overlaps it by this much; the highest score of
            such queries is the object's.

    Returns:
        Share of (asked, other) pairs of objects in which the asked one scores higher; ties count half.
    """
    figures: list[float] = []
    for pair, (mine, rest) in enumerate(zip(asked, others, strict=True)):
        logits, boxes = class_logits[:, pair].float(), boxes_cxcywh[:, pair].float()
        yes, no = (_best_logits(logits, boxes, objects, least_iou) for objects in (mine, rest))
        if len(yes) and len(no):
            difference = yes[:, None] - no[None]
            figures.append(float((difference > 0).float().mean() + 0.5 * (difference == 0).float().mean()))
    return figures


def _best_logits(logits: Tensor, boxes: Tensor, objects: Tensor, least_iou: float) -> Tensor:
    """(N,), (N, 4), (K, 4) -> (found,), for each object that is covered its highest logit."""
    if not len(objects):
        return logits[:0]
    iou, _ = box_overlap(
        boxes[:, None].expand(-1, len(objects), -1), objects[None].expand(len(boxes), -1, -1).to(boxes)
    )  # (N, K)
    # Of several queries on one object all but one are silenced, so the highest score is the object's.
    scores = torch.where(iou >= least_iou, logits[:, None], float("-inf")).amax(0)  # (K,)
    return scores[scores > float("-inf")]


def split_objects(boxes_cxcywh: Tensor, asked: Tensor) -> Tensor:
    """The boxes (K, 4) of all objects of an image without those (G, 4) that were asked for."""
    if not len(asked) or not len(boxes_cxcywh):
        return boxes_cxcywh
    same = torch.isclose(boxes_cxcywh[:, None], asked[None].to(boxes_cxcywh), atol=1e-5).all(-1).any(1)
    return boxes_cxcywh[~same]
