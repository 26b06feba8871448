"""Answered images -> the files that other tools read, one function a format.

Each gives the files of one shard as (path in the folder of the labels, what is to be there): text, or the
path of an image that a link is to lead to. The same answers always give the same files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import quote

import numpy as np
import yaml
from pycocotools import mask as coco_mask
from scipy.special import logit

from conceptseg.choices import LabelFormat, check_choice
from conceptseg.compact_masks import CompactMasks, runs_of
from conceptseg.images import Pixels
from conceptseg.labelling.ledger import Labelled
from conceptseg.result import Result

Files: TypeAlias = "Iterator[tuple[str, str | Path]]"

IDS_PER_IMAGE = 1_000_000  # of annotations, so that they do not depend on other images


def coco_files(shard: int, images: Sequence[Labelled], names: Sequence[str], folder: Path) -> Files:
    """One COCO file: the phrases as categories, scores, run-length masks, and presence."""
    dataset: dict[str, Any] = {
        "images": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [],
        "presence": [],
    }
    for image in images:
        (entry,) = image.answer["images"]
        dataset["images"].append({**entry, "id": image.id, "file_name": image.name})
        for annotation in image.answer["annotations"]:
            number = image.id * IDS_PER_IMAGE + annotation["id"]
            dataset["annotations"].append({**annotation, "id": number, "image_id": image.id})
        for presence in image.answer["presence"]:
            dataset["presence"].append({**presence, "image_id": image.id})
    yield f"coco/{shard:05d}.json", json.dumps(dataset)


def yolo_files(shard: int, images: Sequence[Labelled], names: Sequence[str], folder: Path) -> Files:
    """A text file of polygons for each image, links to the images, and `data.yaml`."""
    data = {"train": "images", "val": "images", "names": dict(enumerate(names))}
    yield "yolo/data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    for image in images:
        yield f"yolo/labels/{image.stem}.txt", joined_result(image, names).to_yolo(names)
        yield f"yolo/images/{image.stem}{Path(image.path).suffix}", Path(image.path)


def labelme_files(shard: int, images: Sequence[Labelled], names: Sequence[str], folder: Path) -> Files:
    """A file for each image, which names the image as seen from there."""
    for image in images:
        path = f"labelme/{image.stem}.json"
        seen = os.path.relpath(image.path, (folder / path).parent)
        yield path, json.dumps(joined_result(image, names).to_labelme(seen), indent=2)


def label_studio_files(shard: int, images: Sequence[Labelled], names: Sequence[str], folder: Path) -> Files:
    """One file of tasks; the images are those of Label Studio's local storage."""
    tasks = [
        joined_result(image, names).to_label_studio(f"/data/local-files/?d={quote(image.name.lstrip('/'))}")
        for image in images
    ]
    yield f"label-studio/{shard:05d}.json", json.dumps(tasks)


FORMATS: dict[LabelFormat, Callable[[int, Sequence[Labelled], Sequence[str], Path], Files]] = {
    "coco": coco_files,
    "yolo": yolo_files,
    "labelme": labelme_files,
    "label-studio": label_studio_files,
}


def check_formats(formats: Sequence[str]) -> list[LabelFormat]:
    """Each once.

    Raises:
        OptionError: there is no such format.
    """
    for name in formats:
        check_choice("format", name, LabelFormat)
    return cast("list[LabelFormat]", list(dict.fromkeys(formats)))


def joined_result(image: Labelled, names: Sequence[str]) -> Result:
    """All objects of an image, best score first."""
    return Result.concat(results_of(image, names))


def results_of(image: Labelled, names: Sequence[str], pixels: Pixels | None = None) -> list[Result]:
    """The results that an answer was made of, one per concept.

    Class scores and logits of presence are not kept: scores and the logits of what is kept stand in for them.
    """
    (entry,) = image.answer["images"]
    presence = {item["category_id"]: item["presence"] for item in image.answer["presence"]}
    results = []
    for category, name in enumerate(names, start=1):
        found = [item for item in image.answer["annotations"] if item["category_id"] == category]
        scores = np.array([item["score"] for item in found], dtype=np.float32)
        corner_and_size = np.array([item["bbox"] for item in found], dtype=np.float32).reshape(-1, 4)
        corner = corner_and_size[:, :2]
        runs = [
            runs_of(coco_mask.decode(item["segmentation"]).astype(bool), (0, 0), entry["height"])
            for item in found
        ]
        results.append(
            Result(
                phrase=name,
                image_size=(entry["height"], entry["width"]),
                masks=CompactMasks((entry["height"], entry["width"]), runs),
                boxes=np.concatenate((corner, corner + corner_and_size[:, 2:]), axis=1),
                scores=scores,
                class_scores=scores,
                presence=presence[category],
                presence_logit=float(logit(presence[category])),
                image=pixels,
                path=Path(image.path),
            )
        )
    return results
