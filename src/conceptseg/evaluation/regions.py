"""Regions: masks and boxes in the form that pycocotools compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from conceptseg.errors import DataError

RegionKind = Literal["masks", "boxes"]
Rle = dict[str, Any]  # {"size": [height, width], "counts": bytes}


def encode_masks(masks: NDArray[np.bool_]) -> list[Rle]:
    """(K, H, W) bool -> K compressed RLEs; small enough to keep for a whole dataset."""
    masks = np.asarray(masks)
    if masks.ndim != 3:
        raise DataError(f"masks have shape {masks.shape}; (K, H, W) is needed")
    if len(masks) == 0:
        return []
    # pycocotools wants (H, W, K) in column order.
    encoded: list[Rle] = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return encoded


def region_iou(
    predicted: Sequence[Rle] | NDArray[Any],
    target: Sequence[Rle] | NDArray[Any],
    kind: RegionKind,
    crowd: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """IoU of every prediction with every target, as pycocotools computes it.

    Args:
        predicted: P regions: RLEs or (P, H, W) bool for masks, (P, 4) x0 y0 x1 y1 in pixels for boxes.
        target: G regions in the same form.
        kind: "masks" or "boxes".
        crowd: (G,), targets that stand for many objects: the intersection is then divided by the area of the
            prediction instead of the union. None for none.

    Returns:
        (P, G) in 0..1.

    Raises:
        DataError: masks of the two sides have different sizes, or boxes are not (K, 4).
    """
    if len(predicted) == 0 or len(target) == 0:
        return np.zeros((len(predicted), len(target)))
    first, second = (_as_coco(regions, kind) for regions in (predicted, target))
    if kind == "masks":
        sizes = {tuple(rle["size"]) for rle in (*first, *second)}
        if len(sizes) > 1:
            raise DataError(f"masks to compare have different sizes (height, width): {sorted(sizes)}")
    is_crowd = [0] * len(second) if crowd is None else [int(flag) for flag in crowd]
    return np.asarray(coco_mask.iou(first, second, is_crowd), dtype=np.float64)


def _as_coco(regions: Sequence[Rle] | NDArray[Any], kind: RegionKind) -> Any:
    if kind == "masks":
        return encode_masks(regions) if isinstance(regions, np.ndarray) else list(regions)
    boxes_xyxy = np.asarray(regions, dtype=np.float64)
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4:
        raise DataError(f"boxes have shape {boxes_xyxy.shape}; (K, 4) is needed")
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
