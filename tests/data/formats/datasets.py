"""Datasets of a few small pictures, written to disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]  # polygon of the box 10, 10, 30, 20


def write_picture(path: Path, width: int = 40, height: int = 30, shade: int = 0) -> Path:
    """A flat picture; two of different shade differ in their bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (shade, 0, 0)).save(path)
    return path


def rle(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> dict[str, Any]:
    """A filled rectangle as compressed run lengths."""
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return {
        "size": [height, width],
        "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode("ascii"),
    }


def image(number: int, **fields: Any) -> dict[str, Any]:
    """An entry of `images`: NUMBER.png, 40 x 30."""
    return {"id": number, "file_name": f"{number}.png", "width": 40, "height": 30, **fields}


def annotation(number: int, image_id: int = 1, category_id: int = 1, **fields: Any) -> dict[str, Any]:
    """An entry of `annotations`: a box of 20 x 10 at 10, 10."""
    own = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": [10, 10, 20, 10]}
    return {key: value for key, value in {**own, **fields}.items() if value is not None}


def coco(
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]] = (),
    names: Sequence[str] = ("cat", "dog"),
) -> dict[str, Any]:
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": list(images), "annotations": list(annotations), "categories": categories}


def write_coco(folder: Path, content: dict[str, Any], file: str = "_annotations.coco.json") -> Path:
    """A file of annotations, and beside it a picture for every image that it lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for shade, entry in enumerate(content["images"]):
        write_picture(folder / entry["file_name"], shade=shade)
    (folder / file).write_text(json.dumps(content))
    return folder / file


def write_yolo(folder: Path, labels: dict[str, str], split: str = "train") -> None:
    """images/SPLIT/NAME.png of 40 x 30 and labels/SPLIT/NAME.txt."""
    for shade, (name, text) in enumerate(labels.items()):
        write_picture(folder / "images" / split / f"{name}.png", shade=shade)
        path = folder / "labels" / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
