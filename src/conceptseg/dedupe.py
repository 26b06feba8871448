"""One object, one result: drop detections whose mask repeats a better one.

Works on the model's own small masks, before they are brought to the image's size, so that it costs little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conceptseg.choices import DedupeMode

SAME_OBJECT_IOU = 0.5
CONTAINED_SHARE = 0.8


def keep_distinct(mask_logits: Tensor, mode: DedupeMode) -> Tensor:
    """Which detections to keep, going from the best score down.

    Args:
        mask_logits: (N, h, w), best score first.
        mode: "nms" drops a mask whose overlap (intersection over union) with a kept one is above 0.5;
            "containment" drops a mask of which more than 0.8 lies inside a kept one: a wheel of a kept car.

    Returns:
        (N,) bool on the CPU. A detection with an empty mask repeats nothing and is kept.
    """
    flat = (mask_logits > 0).flatten(1).float()
    areas = flat.sum(1)
    shared = (flat @ flat.T).cpu()
    areas = areas.cpu()
    if mode == "nms":
        overlap = shared / (areas[:, None] + areas[None] - shared).clamp(min=1)
        too_much = overlap > SAME_OBJECT_IOU
    else:
        too_much = (
            shared / areas[:, None].clamp(min=1) > CONTAINED_SHARE
        )  # share of the row's mask inside the column's
    keep = torch.ones(len(flat), dtype=torch.bool)
    for i in range(1, len(flat)):
        keep[i] = not bool((too_much[i, :i] & keep[:i]).any())
    return keep
