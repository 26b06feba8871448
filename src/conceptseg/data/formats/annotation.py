"""One annotation of a COCO file, checked: `bbox` and `segmentation` in any of their forms."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from conceptseg.data.concept_image import Box, ConceptObject, Polygons, Rle
from conceptseg.errors import DataError

POLYGON_NUMBERS = 6  # three points; fewer cover nothing, and pycocotools takes four numbers for a box


def read_json(path: Path) -> dict[str, Any]:
    """The whole file, polygons as arrays: as lists of Python numbers they take four times the memory.

    Raises:
        DataError: no such file, or no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.load(stream, object_hook=_compact)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds a JSON {type(content).__name__}; a dataset is an object with images, annotations"
        )
    return content


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and polygons and all(isinstance(part, list) for part in polygons):
        try:
            entry["segmentation"] = [array("d", part) for part in polygons]
        except TypeError:  # not numbers: refused, with its id, when the image is read
            pass
    return entry


def entries(content: dict[str, Any], key: str, source: Path) -> list[dict[str, Any]]:
    """A list of the file, each entry an object.

    Raises:
        DataError: it is not there, or is something else.
    """
    found = content.get(key)
    if not isinstance(found, list):
        raise DataError(f'{source} has no list "{key}"; a COCO file has images, annotations and categories')
    for position, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise DataError(f"{source}: {key}[{position}] is {entry!r:.40}; it must be an object")
    return found


def parse_object(raw: dict[str, Any], height: int, width: int, normalised: bool = False) -> ConceptObject:
    """Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        normalised: `bbox` is in fractions of the image's size, as SA-Co writes it.

    Raises:
        DataError: the annotation is malformed; the message begins with its id.
    """
    try:
        mask = _mask(raw.get("segmentation"), height, width)
        box = _box(raw.get("bbox"), (width, height) if normalised else (1, 1))
        if box is None:
            box = _box_of_mask(mask, height, width)
    except DataError as error:
        raise DataError(f"annotation {raw.get('id', 'without id')}: {error}") from error
    return ConceptObject(box, mask, _is_crowd(raw))


def all_have_masks(annotations: Iterable[dict[str, Any]]) -> bool:
    """Every one of these has a mask, crowds apart; False where there is none."""
    shapes = [_has_mask(raw.get("segmentation")) for raw in annotations if not _is_crowd(raw)]
    return bool(shapes) and all(shapes)


def _is_crowd(raw: dict[str, Any]) -> bool:
    # SA-Co's description says is_crowd, its files iscrowd; `ignore` stands in some evaluation sets.
    return any(raw.get(flag) for flag in ("iscrowd", "is_crowd", "ignore"))


def _has_mask(segmentation: Any) -> bool:
    if isinstance(segmentation, list):
        return any(not isinstance(part, array) or len(part) >= POLYGON_NUMBERS for part in segmentation)
    return bool(segmentation)


def _box(bbox: Any, scale: tuple[int, int]) -> Box | None:
    if bbox is None or bbox == []:
        return None
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        raise DataError(f"bbox is {bbox!r:.60}; give [x, y, width, height]")
    x, y, w, h = (value * side for value, side in zip(bbox, scale * 2, strict=True))
    return float(x), float(y), float(x + w), float(y + h)


def _box_of_mask(mask: Rle | Polygons | None, height: int, width: int) -> Box:
    if mask is None:
        raise DataError("it has neither bbox nor segmentation")
    encoded = ConceptObject((0, 0, 0, 0), mask).rle(height, width)
    x, y, w, h = (float(value) for value in coco_mask.toBbox(encoded))
    return x, y, x + w, y + h


def _mask(segmentation: Any, height: int, width: int) -> Rle | Polygons | None:
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, height, width)
    if isinstance(segmentation, list):
        flat = all(_is_number(value) for value in segmentation)  # one polygon without the list around it
        return _polygons([segmentation] if flat else segmentation)
    raise DataError(f"segmentation is {segmentation!r:.60}; give polygons or run lengths")


def _polygons(parts: list[Any]) -> Polygons | None:
    polygons: Polygons = []
    for part in parts:
        if isinstance(part, list) and not all(_is_number(value) for value in part):
            raise DataError("a polygon holds something else than numbers")
        if not isinstance(part, (list, array)) or len(part) % 2 or not np.isfinite(part).all():
            raise DataError("a polygon is not x0, y0, x1, y1, ... in pixels")
        if len(part) >= POLYGON_NUMBERS:
            polygons.append([float(value) for value in part])
    return polygons or None


def _run_lengths(rle: dict[str, Any], height: int, width: int) -> Rle:
    counts, size = rle.get("counts"), rle.get("size")
    if size != [height, width]:
        raise DataError(f"its mask has size {size!r:.40}, its image {[height, width]} (height, width)")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise DataError(f"counts is {counts!r:.40}; give compressed text or a list of run lengths")
    if sum(counts) != height * width:
        raise DataError(f"run lengths add up to {sum(counts):,}, its image has {height * width:,} pixels")
    compressed: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return compressed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
