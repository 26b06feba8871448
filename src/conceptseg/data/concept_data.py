"""Labelled datasets, whatever their format: images, phrases, objects, and phrases that name nothing.

    dataset = open_dataset("data/nuclei", split="valid")
    for image in dataset:  # read one by one; pixels are the caller's to load
        image.phrases, image.absent_phrases

Formats are recognised by what lies there; see `conceptseg.data.formats`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

from conceptseg.data.absent_phrases import sample_absent
from conceptseg.data.concept_image import Box, ConceptImage, ConceptObject
from conceptseg.data.formats.recognise import find_splits
from conceptseg.data.formats.split import Split
from conceptseg.data.part import PartOfSplit
from conceptseg.errors import DataError, OptionError

__all__ = ["ConceptDataset", "ConceptImage", "ConceptObject", "choose_split", "open_dataset"]

ABSENT_PHRASES = 3  # an everyday image of COCO shows 2.9 categories; so both answers are about as frequent
VALIDATION = ("valid", "val", "validation")  # one split, three habits
HELD_OUT = (*VALIDATION, "test", "held_out")


class ConceptDataset(Sequence[ConceptImage]):
    """A split of a labelled dataset; each image is put together when it is asked for.

    Boxes are cut off at the edge of their image. Objects of which nothing is left are no objects.

    Attributes:
        name: of the dataset, for reports.
        split: its name in the data.
        layout: "COCO", "SA-Co" or "YOLO".
        phrases: all of the data, sorted, whether this split shows them or not.
        absent: how many absent phrases are sampled per image when the data names none.
    """

    def __init__(self, name: str, split: str, data: Split, absent: int = ABSENT_PHRASES) -> None:
        self.name = name
        self.split = split
        self.layout = data.layout
        self.phrases = data.phrases
        self.absent = absent
        self._data = data

    def __repr__(self) -> str:
        return f"ConceptDataset({self.name}/{self.split}: {len(self):,} images, {len(self.phrases)} phrases)"

    def __len__(self) -> int:
        return len(self._data)

    @cached_property
    def has_masks(self) -> bool:
        """Every object has a mask, crowds apart; False where there is no object at all."""
        return self._data.has_masks()

    @overload
    def __getitem__(self, index: int) -> ConceptImage: ...

    @overload
    def __getitem__(self, index: slice) -> list[ConceptImage]: ...

    def __getitem__(self, index: int | slice) -> ConceptImage | list[ConceptImage]:
        if isinstance(index, slice):
            return [self._image(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._image(index % len(self))

    def part(self, numbers: Sequence[int]) -> ConceptDataset:
        """The images of these numbers, as a dataset of its own; absent phrases stay the same."""
        return ConceptDataset(self.name, self.split, PartOfSplit(self._data, numbers), self.absent)

    def _image(self, index: int) -> ConceptImage:
        image = self._data.read(index)
        phrases = {
            phrase: kept
            for phrase, objects in image.phrases.items()
            if (kept := list(_on_image(objects, image.width, image.height)))
        }
        absent = image.absent_phrases
        if self._data.samples_absent:
            absent = sample_absent(image.path.name, image.phrases, self.phrases, self.absent)
        return dataclasses.replace(image, phrases=phrases, absent_phrases=absent)


def open_dataset(
    path: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    absent: int = ABSENT_PHRASES,
) -> ConceptDataset:
    """Open a split of a dataset: COCO, SA-Co, Roboflow or YOLO.

    Args:
        path: folder of the dataset, or its annotations (.json) or description (.yaml).
        split: its name; "valid", "val" and "validation" mean the same. None takes the held-out one, or the
            only one.
        images: folder that file names are relative to, when they do not lie where the format says.
        annotations: COCO or SA-Co file, when it does not lie where the format says.
        absent: phrases sampled per image from the other categories, when the data names none; 0 for none.

    Raises:
        DataError: nothing there can be read, the split does not exist, or images are missing.
        OptionError: `absent` is negative.
    """
    if absent < 0:
        raise OptionError(f"absent is {absent}; give a number of phrases per image, 0 or more")
    splits = find_splits(path, images, annotations, split)
    name = choose_split(list(splits), split, path)
    data = splits[name]()
    data.refuse_missing_files()
    return ConceptDataset(dataset_name(path), name, data, absent)


def dataset_name(path: str | os.PathLike[str]) -> str:
    """How reports call a dataset: by its folder, or by its file without suffix."""
    whole = Path(path).resolve()
    return whole.name if whole.is_dir() else whole.stem


def choose_split(names: Sequence[str], wanted: str | None, path: str | os.PathLike[str]) -> str:
    """The split that is meant.

    Args:
        names: of all splits that were found.
        wanted: as the user says it; None for the held-out one, or the only one.
        path: of the dataset, for messages.

    Raises:
        DataError: no such split, or none was wanted and it is not clear which to take.
    """
    for candidate in _same_split(wanted) if wanted is not None else HELD_OUT:
        if candidate in names:
            return candidate
    if wanted is None and len(names) == 1:
        return names[0]
    choice = f"has the split{'s' * (len(names) != 1)} {', '.join(names)}"
    if wanted is None:
        raise DataError(f"{os.fspath(path)} {choice}; choose one with split (--split)")
    raise DataError(f'{os.fspath(path)} has no split "{wanted}"; it {choice}')


def _same_split(wanted: str) -> Sequence[str]:
    return (wanted, *VALIDATION) if wanted in VALIDATION else (wanted,)


def _on_image(objects: Iterable[ConceptObject], width: int, height: int) -> Iterable[ConceptObject]:
    """Objects with their boxes cut off at the edge; those that lie outside, or have no area, are left out."""
    for it in objects:
        x0, y0, x1, y1 = it.box_xyxy
        box: Box = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if box[2] > box[0] and box[3] > box[1]:
            yield it if box == it.box_xyxy else dataclasses.replace(it, box_xyxy=box)
