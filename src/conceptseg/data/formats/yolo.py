"""YOLO: one text file per image, one line per object: class, then a polygon or a box, in fractions.

    data.yaml             names: the phrases; train, val, test: folders or lists of images
    images/train/a.jpg    labels/train/a.txt

The labels of an image lie where its path says `labels` instead of `images`. Without data.yaml the names may
stand in classes.txt, one per line, beside `images` and `labels`.
Source: https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.formats.coco import as_phrase
from conceptseg.data.formats.image_files import SUFFIXES, images_in
from conceptseg.data.formats.split import Split, size_of_file
from conceptseg.errors import DataError

BOX_NUMBERS = 4  # centre x, centre y, width, height
POLYGON_NUMBERS = 6  # three points
OUTSIDE = 0.1  # tools let polygons reach a little over the edge; pixel coordinates are far beyond
SPLITS = ("train", "val", "valid", "validation", "test")


class YoloSplit(Split):
    """The images of one split and their label files.

    Args:
        names: class number -> phrase.
        images: files; one that does not exist is missing.
        source: description or folder, for messages.

    Raises:
        DataError: no image, or none has labels.
    """

    layout = "YOLO"
    samples_absent = True

    def __init__(self, names: dict[int, str], images: Sequence[Path], source: Path) -> None:
        self.source = source
        self._names = names
        self.phrases = tuple(sorted(set(names.values())))
        self._images = images
        self._labels = [label_file(image) for image in images]
        if not images:
            raise DataError(f"{source} describes a split without images")
        if not any(labels.is_file() for labels in self._labels):
            raise DataError(
                f"{source}: none of {len(images):,} images has labels; the first should be {self._labels[0]}"
            )

    def __len__(self) -> int:
        return len(self._images)

    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        return [(image.name, image if image.is_file() else None) for image in self._images]

    def has_masks(self) -> bool:
        lines = [line for labels in self._labels for _, line in _lines(labels)]
        return bool(lines) and all(len(line.split()) > 1 + BOX_NUMBERS for line in lines)

    def read(self, index: int) -> ConceptImage:
        file, labels = self._images[index], self._labels[index]
        height, width = size_of_file(file)
        phrases: dict[str, list[ConceptObject]] = {}
        for number, line in _lines(labels):
            try:
                phrase, it = self._parse(line, height, width)
            except DataError as error:
                raise DataError(f"{labels}, line {number}: {error}") from error
            phrases.setdefault(phrase, []).append(it)
        return ConceptImage(path=file, width=width, height=height, phrases=phrases)

    def _parse(self, line: str, height: int, width: int) -> tuple[str, ConceptObject]:
        first, *rest = line.split()
        try:
            class_number, values = int(float(first)), [float(word) for word in rest]
        except (ValueError, OverflowError):
            raise DataError(f'"{line:.40}" is not a class and numbers') from None
        if class_number not in self._names:
            raise DataError(f"class {first} has no name; there are {len(self._names)} names")
        if len(values) != BOX_NUMBERS and (len(values) < POLYGON_NUMBERS or len(values) % 2):
            raise DataError(
                f"{len(values)} numbers after the class; a box has 4, a polygon 6 or more, an even number"
            )
        for value in values:
            if not math.isfinite(value) or not -OUTSIDE <= value <= 1 + OUTSIDE:
                raise DataError(f"{value:g} is not a fraction of the image's width or height")
        phrase = self._names[class_number]
        if len(values) == BOX_NUMBERS:
            x, y, w, h = values
            corners = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
            return phrase, ConceptObject(corners)
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        polygon = [value for point in zip(xs, ys, strict=True) for value in point]
        return phrase, ConceptObject((min(xs), min(ys), max(xs), max(ys)), [polygon])


def label_file(image: Path) -> Path:
    """Where the labels of an image lie: `labels` for the last `images` in its path, or beside it."""
    folders = list(image.parts[:-1])
    for position in range(len(folders) - 1, -1, -1):
        if folders[position] == "images":
            folders[position] = "labels"
            break
    return Path(*folders, image.stem + ".txt")


def yolo_splits(description: Path) -> dict[str, tuple[dict[int, str], list[Path]]]:
    """Split -> names and images, as data.yaml says.

    Raises:
        DataError: it cannot be read, or has no names, or no split.
    """
    try:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{description} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{description} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("names"):
        raise DataError(f"{description} has no names; they are the phrases")
    names = _names(content["names"], description)
    root = description.parent / str(content.get("path") or "")
    splits = {
        split: (names, _images(content[split], root, description)) for split in SPLITS if content.get(split)
    }
    if not splits:
        raise DataError(f"{description} has no train, val or test")
    return splits


def listed_classes(folder: Path) -> dict[str, tuple[dict[int, str], list[Path]]]:
    """Split -> names and images of a folder with classes.txt; one split "all" unless `images` is divided."""
    lines = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    names = _names([line for line in lines if line.strip()], folder / "classes.txt")
    divided = [split for split in SPLITS if (folder / "images" / split).is_dir()]
    if not divided:
        return {"all": (names, images_in(folder / "images"))}
    return {split: (names, images_in(folder / "images" / split)) for split in divided}


def _names(given: Any, source: Path) -> dict[int, str]:
    """A list, or numbers -> names."""
    numbered = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(numbered, dict) or not numbered:
        raise DataError(f"{source}: names is {given!r:.60}; give a list of phrases")
    names = {}
    for number, name in numbered.items():
        if not str(number).isdigit() or not str(name).strip():
            raise DataError(f"{source}: names has {number!r}: {name!r}; give class numbers and phrases")
        names[int(number)] = as_phrase(str(name))
    return names


def _images(given: Any, root: Path, description: Path) -> list[Path]:
    """The images of a split: a folder, a text file that lists them, or several of either."""
    images: list[Path] = []
    for place in given if isinstance(given, list) else [given]:
        path = _existing(str(place), root, description)
        if path.is_dir():
            images += images_in(path)
        elif path.suffix.lower() in SUFFIXES:
            images.append(path)
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            images += [path.parent / line.strip() for line in lines if line.strip()]
    return images


def _existing(place: str, root: Path, description: Path) -> Path:
    """Where a folder of data.yaml is: `path` may be another machine's, and Roboflow writes `../train/images`
    for folders beside the file."""
    beside = description.parent
    for candidate in (root / place, beside / place, beside / place.removeprefix("../")):
        if candidate.exists():
            return candidate
    raise DataError(f"{description}: {root / place} does not exist")


def _lines(labels: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not blank; an image without objects has an empty file, or none.

    Raises:
        DataError: the file is no text.
    """
    try:
        text = labels.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{labels} cannot be read as text") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
