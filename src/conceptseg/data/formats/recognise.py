"""Which format lies in a folder, and which splits it has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import yaml

from conceptseg.data.formats import roboflow, yolo
from conceptseg.data.formats.annotation import read_json
from conceptseg.data.formats.coco import CocoSplit
from conceptseg.data.formats.saco import SacoSplit
from conceptseg.data.formats.split import Split, first_of
from conceptseg.errors import DataError

Opener: TypeAlias = Callable[[], Split]

COCO_FILES = (roboflow.ANNOTATIONS, "annotations.coco.json", "annotations.json")
ORDER = ("train", "valid", "val", "validation", "test")
WANTED = (
    "SPLIT/_annotations.coco.json beside its images (COCO, Roboflow), annotations/instances_SPLIT.json "
    "(COCO), data.yaml with names (YOLO), or a file given with annotations (--annotations)"
)


def find_splits(
    data: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    split: str | None = None,
) -> dict[str, Opener]:
    """Split -> what opens it; nothing is read yet but folders and a data.yaml.

    Args:
        data: folder of the dataset, its annotations (.json) or its description (.yaml).
        images: folder that file names are relative to.
        annotations: COCO or SA-Co file; a relative path may also be relative to `data`.
        split: what the one split of a single file is called; its name if None.

    Raises:
        DataError: nothing there is a dataset; the message says what would be.
    """
    root = Path(data)
    image_root = _folder(images, root) if images is not None else None
    if annotations is not None:
        return _one_file(_file(annotations, root), image_root, split)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if root.suffix.lower() == ".json" and root.is_file():
        return _one_file(root, image_root, split)
    found = dict(_coco(root, image_root)) if root.is_dir() else {}
    if not found:
        described = _yolo(root)
        if described and images is not None:
            raise DataError(f"{root} is in YOLO layout, where images cannot be given apart; see data.yaml")
        found = described
    if not found:
        files = [path.name for path in sorted(root.glob("*.json"))] if root.is_dir() else []
        hint = f" (there is {first_of(files)})" if files else ""
        raise DataError(f"{root} holds no dataset that can be read{hint}; it needs {WANTED}")
    return dict(sorted(found.items(), key=lambda item: _rank(item[0])))


def open_file(annotations: Path, images: Path) -> Split:
    """A COCO or an SA-Co file, by what its images say.

    Raises:
        DataError: it is neither.
    """
    content = read_json(annotations)
    entries = content.get("images")
    first = entries[0] if isinstance(entries, list) and entries else None
    is_saco = isinstance(first, dict) and "text_input" in first
    return (SacoSplit if is_saco else CocoSplit)(content, annotations, images)


def _one_file(annotations: Path, images: Path | None, split: str | None) -> dict[str, Opener]:
    if images is None:
        images = annotations.parent
    return {split or annotations.stem: partial(open_file, annotations, images)}


def _coco(root: Path, images: Path | None) -> Iterator[tuple[str, Opener]]:
    for folder in (root, *(path for path in sorted(root.iterdir()) if path.is_dir())):
        for file in COCO_FILES:
            if (folder / file).is_file():
                split = root.resolve().name if folder == root else folder.name
                yield split, partial(open_file, folder / file, _images_of(folder, images, split))
                break
    for path in sorted((root / "annotations").glob("instances_*.json")):
        split = path.stem.removeprefix("instances_")
        candidates = (root / split, root / "images" / split, root / "images")
        own = next((folder for folder in candidates if folder.is_dir()), root)
        yield split, partial(open_file, path, _images_of(own, images, split))


def _images_of(folder: Path, images: Path | None, split: str) -> Path:
    """Where a split's images lie: beside the annotations, unless they were given apart."""
    if images is None:
        return folder
    return images / split if (images / split).is_dir() else images


def _yolo(root: Path) -> dict[str, Opener]:
    if root.is_file():
        if root.suffix.lower() not in (".yaml", ".yml"):
            return {}
        return _openers(yolo.yolo_splits(root), root)
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        if path.stem in ("data", "dataset") or _has_names(path):
            return _openers(yolo.yolo_splits(path), path)
    if (root / "classes.txt").is_file() and (root / "images").is_dir():
        return _openers(yolo.listed_classes(root), root)
    return {}


def _has_names(path: Path) -> bool:
    """Whether some other YAML file of the folder describes a dataset."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "names" in content


def _openers(splits: dict[str, tuple[dict[int, str], list[Path]]], source: Path) -> dict[str, Opener]:
    return {
        split: partial(yolo.YoloSplit, names, images, source) for split, (names, images) in splits.items()
    }


def _rank(split: str) -> tuple[int, str]:
    return (ORDER.index(split) if split in ORDER else len(ORDER), split)


def _folder(given: str | os.PathLike[str], root: Path) -> Path:
    for candidate in (Path(given), root / given):
        if candidate.is_dir():
            return candidate
    raise DataError(f"{os.fspath(given)}: no such folder of images")


def _file(given: str | os.PathLike[str], root: Path) -> Path:
    for candidate in (Path(given), root / given):
        if candidate.is_file():
            return candidate
    raise DataError(f"{os.fspath(given)}: no such file of annotations")
