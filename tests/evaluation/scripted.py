"""Data in memory, and a segmenter that says what the test wants, so that metrics can be worked by hand."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.data.concept_data import ConceptImage, ConceptObject
from conceptseg.result import Result

WIDTH, HEIGHT = 64, 48
Box = list[float]


def thing(box: Box, *, masked: bool = True, crowd: bool = False) -> ConceptObject:
    """An object that fills its box."""
    x0, y0, x1, y1 = box
    mask = [[x0, y0, x1, y0, x1, y1, x0, y1]] if masked else None
    return ConceptObject((x0, y0, x1, y1), mask, crowd)


class Dataset(Sequence[ConceptImage]):
    """What `evaluate` needs of a ConceptDataset."""

    def __init__(self, images: Sequence[ConceptImage], has_masks: bool = True) -> None:
        self.name, self.split, self.has_masks = "drawers", "valid", has_masks
        self.images = list(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]


def picture(folder: Path, name: str, phrases: dict[str, list[ConceptObject]], **more: Any) -> ConceptImage:
    """An image file of 64 x 48 pixels and what is known about it."""
    pixels = np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return ConceptImage(folder / name, WIDTH, HEIGHT, phrases, **more)


@dataclass
class Scripted:
    """Answers from a table: (file name, phrase) -> (presence, [(box, score), ...]); nothing for the rest."""

    table: dict[tuple[str, str], tuple[float, list[tuple[Box, float]]]]
    size_hw: tuple[int, int] = (HEIGHT, WIDTH)
    asked: list[dict[str, Any]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)  # results that were alive when one more was asked for
    config = SimpleNamespace(provenance={"name": "script"}, presence_mode="multiply")
    fingerprint, resolution, dtype = "f00", 32, torch.float32

    def __post_init__(self) -> None:
        self._results: weakref.WeakSet[Result] = weakref.WeakSet()

    def encode(self, path: Path) -> Any:
        return SimpleNamespace(name=path.name, size_hw=self.size_hw)

    def exemplar(self, path: Path, boxes: list[Box]) -> Any:
        return SimpleNamespace(name=path.name, boxes=boxes)

    def segment(self, encoded: Any, text: Any = None, **options: Any) -> Any:
        self.alive.append(len(self._results))
        self.asked.append({"image": encoded.name, "text": text, **options})
        if isinstance(text, list):
            return [self._answer(encoded.name, phrase) for phrase in text]
        return self._answer(encoded.name, text or "visual")

    def _answer(self, name: str, phrase: str) -> Result:
        presence, found = self.table.get((name, phrase), (0.0, []))
        found = sorted(found, key=lambda entry: -entry[1])
        scores = np.array([score for _, score in found], dtype=np.float32)
        result = Result(
            phrase=phrase,
            image_size=self.size_hw,
            masks=np.array([thing(box).decode(HEIGHT, WIDTH) for box, _ in found], dtype=bool).reshape(
                -1, HEIGHT, WIDTH
            ),
            boxes=np.array([box for box, _ in found], dtype=np.float32).reshape(-1, 4),
            scores=scores,
            class_scores=scores,
            presence=presence,
            presence_logit=100 * presence,  # no sigmoid gives it back
        )
        self._results.add(result)
        return result


def write_coco(folder: Path, images: dict[str, dict[str, list[Box]]], masked: bool = True) -> Path:
    """A data set in COCO layout, FOLDER/valid: file name -> phrase -> boxes."""
    split = folder / "valid"
    split.mkdir(parents=True)
    names = sorted({phrase for phrases in images.values() for phrase in phrases})
    coco: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    for number, (name, phrases) in enumerate(images.items(), start=1):
        picture(split, name, {})
        coco["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for phrase, boxes in phrases.items():
            for box in boxes:
                x0, y0, x1, y1 = box
                entry = {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": number,
                    "category_id": names.index(phrase) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
                if masked:
                    encoded = coco_mask.encode(np.asfortranarray(thing(box).decode(HEIGHT, WIDTH), np.uint8))
                    entry["segmentation"] = {
                        "size": [HEIGHT, WIDTH],
                        "counts": encoded["counts"].decode("ascii"),
                    }
                coco["annotations"].append(entry)
    (split / "_annotations.coco.json").write_text(json.dumps(coco))
    return folder
