"""What was accepted, as a COCO dataset: links to the images, and `_annotations.coco.json` beside them.

An accepted image holds all objects of all phrases: where a phrase has none, it is absent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptseg.errors import OptionError
from conceptseg.review.review import Review

FOLDER = "reviewed"
SPLIT = "train"
ANNOTATIONS = "_annotations.coco.json"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path  # a dataset, for `conceptseg finetune`
    images: int
    objects: int


def export_accepted(review: Review) -> Exported:
    """Write the accepted images of a review into `reviewed` in its folder, in place of what was there.

    Raises:
        OptionError: no image is accepted, or a file that is no link lies in the way of one.
    """
    folder = review.folder / FOLDER / SPLIT
    dataset: dict[str, Any] = {
        "images": [],
        "categories": [{"id": n, "name": phrase.name} for n, phrase in enumerate(review.phrases, start=1)],
        "annotations": [],
    }
    links: dict[Path, Path] = {}
    for place in review.accepted():
        shown = review.at(place)
        height, width = shown.size_hw
        name = f"{shown.image.stem}{Path(shown.image.path).suffix}"
        links[folder / name] = Path(shown.image.path)
        number = len(dataset["images"]) + 1
        dataset["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        for one in shown.decision.objects:
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": number,
                    "category_id": one.phrase + 1,
                    "bbox": list(one.bbox),
                    "area": one.area,
                    "segmentation": {"size": [height, width], "counts": one.counts},
                    "iscrowd": 0,
                }
            )
    if not links:
        raise OptionError("no image is accepted yet, so there is nothing to export")
    _link(folder, links)
    draft = folder / f"{ANNOTATIONS}.draft"
    draft.write_text(json.dumps(dataset), encoding="utf-8")
    draft.replace(folder / ANNOTATIONS)
    return Exported(folder.parent, len(dataset["images"]), len(dataset["annotations"]))


def _link(folder: Path, links: dict[Path, Path]) -> None:
    """Have exactly these links in a folder, and leave alone all that is no link."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_symlink() and path not in links:
            path.unlink()
    for path, image in links.items():
        if path.is_symlink():
            if path.readlink() == image:
                continue
            path.unlink()
        elif path.exists():
            raise OptionError(f"{path} is in the way of a link to {image}; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(image)
