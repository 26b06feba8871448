"""Results -> JSON, and from JSON to the files of other tools."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from conceptseg.compact_masks import CompactMasks
from conceptseg.errors import OptionError
from conceptseg.formats import coco_dataset
from conceptseg.polygons import mask_polygons
from conceptseg.result import Result
from conceptseg.serving.schemas import Export, ExportedConcept, Prompt


def concepts(results: Sequence[Result], prompt: Prompt) -> list[dict[str, Any]]:
    """Each as a `schemas.Concept`."""
    return [
        {
            "phrase": result.phrase,
            "presence": round(result.presence, 6),
            "presence_logit": round(result.presence_logit, 6),
            "instances": _instances(result, prompt),
        }
        for result in results
    ]


def _instances(result: Result, prompt: Prompt) -> list[dict[str, Any]]:
    masks = result.compact_masks
    rles, areas = masks.rles(), masks.areas().tolist()
    boxes, scores = (
        result.boxes.astype(float).round(2).tolist(),
        result.scores.astype(float).round(6).tolist(),
    )
    class_scores = result.class_scores.astype(float).round(6).tolist()
    found = []
    for number in range(len(result)):
        mask: dict[str, Any]
        if prompt.mask_format == "polygon":
            parts = mask_polygons(masks, number, prompt.tolerance)
            mask = {"polygons": [part.round(2).tolist() for part in parts]}
        elif prompt.mask_format == "png":
            mask = {"data": _png(result[number])}
        else:
            mask = {"size": list(masks.size_hw), "counts": rles[number]["counts"].decode("ascii")}
        found.append(
            {
                "box": boxes[number],
                "score": scores[number],
                "class_score": class_scores[number],
                "area": areas[number],
                "mask": {"format": prompt.mask_format, **mask},
            }
        )
    return found


def _png(one: Result) -> str:
    file = io.BytesIO()
    Image.fromarray(one.masks[0]).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def export(wanted: Export) -> tuple[str, str, str]:
    """(content, media type, file name) of what another tool reads.

    Raises:
        OptionError: runs do not fill the image.
    """
    path = Path(PurePath(wanted.file_name.replace("\\", "/")).name or "image")
    results = [_result(concept, wanted, path) for concept in wanted.results]
    if wanted.format == "coco":
        return json.dumps(coco_dataset(results)), "application/json", f"{path.stem}.coco.json"
    joined = Result.concat(results)
    if wanted.format == "yolo":
        classes = list(dict.fromkeys(result.phrase for result in results))
        return joined.to_yolo(classes), "text/plain", f"{path.stem}.txt"
    if wanted.format == "labelme":
        return json.dumps(joined.to_labelme()), "application/json", f"{path.stem}.json"
    return json.dumps([joined.to_label_studio()]), "application/json", f"{path.stem}.label-studio.json"


def _result(concept: ExportedConcept, wanted: Export, path: Path) -> Result:
    size = wanted.height, wanted.width
    found = concept.instances
    scores = np.array([one.score for one in found], dtype=np.float32)
    return Result(
        phrase=concept.phrase,
        image_size=size,
        masks=CompactMasks(size, [_runs(one.counts, size) for one in found]),
        boxes=np.array([one.box for one in found], dtype=np.float32).reshape(-1, 4),
        scores=scores,
        class_scores=scores,
        presence=concept.presence,
        presence_logit=0.0,  # goes into no file
        path=path,
    )


def _runs(counts: list[int], size_hw: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """COCO's counts -> first pixel and one past the last of every run of the mask."""
    height, width = size_hw
    if min(counts[1:], default=1) < 1 or min(counts, default=0) < 0 or sum(counts) != height * width:
        raise OptionError(
            f"counts must be run lengths of all {height * width:,} pixels of the {width} x {height} image, "
            "and none but the first may be 0"
        )
    ends = np.cumsum(np.array(counts, dtype=np.int64))
    return np.stack((ends[:-1:2], ends[1::2]), axis=1)
