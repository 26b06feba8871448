"""Results as files of tools that people label and train with: YOLO, LabelMe, Label Studio.

Sources: https://docs.ultralytics.com/datasets/segment/, https://github.com/wkentaro/labelme
(`labelme/_label_file.py`), https://labelstud.io/guide/predictions and the run lengths of its brush, which are
those of https://github.com/thi-ng/umbrella (`packages/rle-pack`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from conceptseg.choices import LabelStudioRegion, check_choice
from conceptseg.errors import OptionError
from conceptseg.formats import clipped_boxes
from conceptseg.polygons import joined, mask_polygons

if TYPE_CHECKING:
    from conceptseg.result import Result

LABELME_VERSION = "5.5.0"  # whose fields these are
BRUSH_SIZES = (3, 4, 8, 16)  # bits of a run's length, one of four


def yolo_lines(result: Result, classes: Sequence[str] | None, boxes: bool, tolerance: float) -> str:
    """See `Result.to_yolo`."""
    _check_tolerance(tolerance)
    names = list(dict.fromkeys(result.phrases)) if classes is None else list(classes)
    height, width = result.image_size
    lines = []
    for number, (phrase, box) in enumerate(zip(result.phrases, clipped_boxes(result), strict=True)):
        if phrase not in names:
            raise OptionError(f"{phrase!r} is none of the classes {', '.join(map(repr, names))}")
        if boxes:
            corners = box.reshape(2, 2) / (width, height)
            values = np.concatenate((corners.mean(0), corners[1] - corners[0]))
        else:
            parts = mask_polygons(result.compact_masks, number, tolerance)
            if not parts:
                continue
            values = (reduce(joined, parts) / (width, height)).ravel()
        lines.append(" ".join([str(names.index(phrase)), *(f"{value:.6g}" for value in values)]))
    return "".join(line + "\n" for line in lines)


def labelme_content(result: Result, image_path: str | Path | None, tolerance: float) -> dict[str, Any]:
    """See `Result.to_labelme`."""
    _check_tolerance(tolerance)
    shapes = []
    for number, (phrase, score) in enumerate(zip(result.phrases, result.scores, strict=True)):
        parts = mask_polygons(result.compact_masks, number, tolerance)
        for polygon in parts:
            shapes.append(
                {
                    "label": phrase,
                    "points": polygon.tolist(),
                    "group_id": number if len(parts) > 1 else None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                    "score": round(float(score), 6),
                }
            )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": _image_name(result) if image_path is None else Path(image_path).as_posix(),
        "imageData": None,
        "imageHeight": result.image_size[0],
        "imageWidth": result.image_size[1],
    }


def label_studio_task(
    result: Result,
    image: str | None,
    regions: LabelStudioRegion,
    from_name: str,
    to_name: str,
    tolerance: float,
) -> dict[str, Any]:
    """See `Result.to_label_studio`."""
    _check_tolerance(tolerance)
    check_choice("regions", regions, LabelStudioRegion)
    kind = {"polygons": "polygonlabels", "brush": "brushlabels", "boxes": "rectanglelabels"}[regions]
    height, width = result.image_size
    found = []
    for number, (phrase, score) in enumerate(zip(result.phrases, result.scores, strict=True)):
        for part, value in enumerate(_label_studio_values(result, number, regions, tolerance)):
            found.append(
                {
                    "id": f"{number}-{part}",
                    "type": kind,
                    "from_name": from_name,
                    "to_name": to_name,
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": round(float(score), 6),
                    "value": {**value, kind: [phrase]},
                }
            )
    prediction: dict[str, Any] = {"model_version": "conceptseg", "result": found}
    if len(result):
        prediction["score"] = round(float(result.scores.mean()), 6)
    return {"data": {to_name: _image_name(result) if image is None else image}, "predictions": [prediction]}


def _label_studio_values(
    result: Result, number: int, regions: LabelStudioRegion, tolerance: float
) -> list[dict[str, Any]]:
    """Its values of a region, in percent: one, or one for each part of the mask."""
    height, width = result.image_size
    if regions == "brush":
        if not len(result.compact_masks.runs[number]):
            return []
        return [{"format": "rle", "rle": brush_rle(result[number].masks[0])}]
    if regions == "boxes":
        x0, y0, x1, y1 = (clipped_boxes(result)[number] * np.tile((100 / width, 100 / height), 2)).tolist()
        return [{"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}]
    percent = np.array([100 / width, 100 / height])
    polygons = mask_polygons(result.compact_masks, number, tolerance)
    return [{"points": (polygon * percent).tolist(), "closed": True} for polygon in polygons]


def brush_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """(H, W) -> bytes of a picture in Label Studio's packed run lengths: RGBA, 255 where the mask is.

    Bits: the number of values (32), bits of a value less 1 (5), bits of four kinds of lengths less 1 (4
    each); then for each run a 1, the kind of its length (2), its length less 1, and its value.
    """
    bits = [f"{4 * mask.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in BRUSH_SIZES)]
    changes = np.flatnonzero(np.diff(mask.ravel().view(np.uint8), prepend=2))
    lengths = 4 * np.diff(changes, append=mask.size)
    longest = 1 << BRUSH_SIZES[-1]
    for start, length in zip(changes.tolist(), lengths.tolist(), strict=True):
        value = 255 * int(mask.flat[start])
        while length:
            taken = min(length, longest)
            kind = next(kind for kind, size in enumerate(BRUSH_SIZES) if taken <= 1 << size)
            bits.append(f"1{kind:02b}{taken - 1:0{BRUSH_SIZES[kind]}b}{value:08b}")
            length -= taken
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def _image_name(result: Result) -> str:
    return "image" if result.path is None else result.path.name


def _check_tolerance(tolerance: float) -> None:
    if not tolerance >= 0:
        raise OptionError(f"tolerance {tolerance!r} must be 0 or more pixels")
