"""What a dataset holds, what is doubtful in it, and what makes it unusable; reads every image's header.

Problems make it unusable: files that are missing or are no images, annotations that are malformed or belong
to pictures of another size. Notes are worth a look: what they name is used as it is, unless they say that it
is left out or cut off.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.data.concept_data import choose_split, dataset_name
from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.formats.recognise import find_splits
from conceptseg.data.formats.roboflow import source_name
from conceptseg.data.formats.split import SHOWN, Split, size_of_file
from conceptseg.errors import DataError

TINY = 2.0  # pixels; a side shorter than this can hardly be seen
WHOLE = 0.98  # of both sides of the image
SMALL_OVERLAP = 0.5  # IoU of a box with the box around its mask; rounding costs small objects up to a third
OVER_THE_EDGE = 1.0  # pixels that rounding may put a box over the edge of its image


@dataclass
class Finding:
    """One kind of trouble: how often, and where first."""

    what: str  # such as "images without a file"
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, where: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(where)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first) else ""
        return f"{self.what}: {self.count:,} ({', '.join(self.first)}{more})"


class Findings:
    """Findings by kind, in the order in which they first came up."""

    def __init__(self) -> None:
        self._kinds: dict[str, Finding] = {}

    def add(self, what: str, where: str) -> None:
        self._kinds.setdefault(what, Finding(what)).add(where)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kinds.values())

    def __len__(self) -> int:
        return len(self._kinds)

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [{"what": it.what, "count": it.count, "first": it.first} for it in self]


@dataclass
class PhraseCount:
    """How often a phrase is true."""

    images: int = 0
    objects: int = 0  # without crowds


@dataclass
class SplitReport:
    """One split: counts, notes and problems."""

    name: str
    layout: str = "not known"
    source: str = ""
    images: int = 0
    empty_images: int = 0  # without any object
    objects: int = 0  # without crowds; an object that two phrases name counts twice
    crowds: int = 0
    with_mask: int = 0  # of the objects
    absent_pairs: int = 0  # (image, phrase) pairs that the data itself calls absent
    samples_absent: bool = False
    phrases: dict[str, PhraseCount] = field(default_factory=dict)
    sides: list[int] = field(default_factory=list)  # the longer one of each image, in pixels
    notes: Findings = field(default_factory=Findings)
    problems: Findings = field(default_factory=Findings)

    @property
    def masks(self) -> str:
        """What is annotated, in words."""
        if self.objects == 0:
            return "no objects"
        if self.with_mask in (0, self.objects):
            return "masks" if self.with_mask else "boxes only"
        return f"masks of {self.with_mask:,}, boxes only of {self.objects - self.with_mask:,}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        sides = self.sides
        return {
            "layout": self.layout,
            "source": self.source,
            "images": self.images,
            "empty_images": self.empty_images,
            "objects": self.objects,
            "crowds": self.crowds,
            "objects_with_mask": self.with_mask,
            "absent": "sampled" if self.samples_absent else self.absent_pairs,
            "longer_side": {"min": min(sides), "median": statistics.median(sides), "max": max(sides)}
            if sides
            else None,
            "phrases": {
                phrase: {"images": count.images, "objects": count.objects}
                for phrase, count in self.phrases.items()
            },
            "notes": self.notes.to_list(),
            "problems": self.problems.to_list(),
        }


@dataclass
class DatasetReport:
    """All splits that were checked, and what holds across them."""

    name: str
    splits: list[SplitReport]
    notes: Findings = field(default_factory=Findings)

    @property
    def problems(self) -> list[str]:
        """One line each, named after their split; empty when the dataset can be used."""
        return [f"{split.name}: {problem}" for split in self.splits for problem in split.problems]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "usable": not self.problems,
            "splits": {split.name: split.to_dict() for split in self.splits},
            "notes": self.notes.to_list(),
        }


def check_dataset(
    path: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read all annotations of a dataset and the header of every image.

    Args:
        path: folder of the dataset, or its annotations (.json) or description (.yaml).
        split: the one to check; None checks all.
        images: folder that file names are relative to, when they do not lie where the format says.
        annotations: COCO or SA-Co file, when it does not lie where the format says.
        progress: called with the images that are done in a split, and how many it has.

    Raises:
        DataError: there is no dataset, or no such split. What is wrong inside of it is in the report.
    """
    openers = find_splits(path, images, annotations, split)
    chosen = list(openers) if split is None else [choose_split(list(openers), split, path)]
    report = DatasetReport(dataset_name(path), [])
    files: list[tuple[str, Path]] = []
    for name in chosen:
        checked = SplitReport(name)
        report.splits.append(checked)
        try:
            data = openers[name]()
        except DataError as error:
            checked.problems.add("not readable", str(error))
            continue
        files += [(name, file) for _, file in data.image_files() if file is not None]
        _check_split(data, checked, progress)
    _note_same_pictures(files, report.notes)
    return report


def _check_split(data: Split, report: SplitReport, progress: Callable[[int, int], None] | None) -> None:
    report.layout, report.source = data.layout, str(data.source)
    report.images, report.samples_absent = len(data), data.samples_absent
    report.phrases = {phrase: PhraseCount() for phrase in data.phrases}
    files = data.image_files()
    for name, count in Counter(name for name, _ in files).items():
        if count > 1:
            report.notes.add("images that are listed more than once", name)
    for index, (name, file) in enumerate(files):
        _check_image(data, index, name, file, report)
        if progress is not None:
            progress(index + 1, len(files))
    for phrase, phrase_count in report.phrases.items():
        if phrase_count.images == 0:
            report.notes.add("phrases that name nothing in this split", f'"{phrase}"')
        if "_" in phrase:
            report.notes.add("phrases with underscores, where a model expects words", f'"{phrase}"')


def _check_image(data: Split, index: int, name: str, file: Path | None, report: SplitReport) -> None:
    if file is None:
        report.problems.add("images without a file", name)
        return
    try:
        size_hw = size_of_file(file)
    except DataError:
        report.problems.add("files that are no images, or damaged", name)
        return
    try:
        image = data.read(index)
    except DataError as error:
        report.problems.add("images with malformed annotations", str(error))
        return
    report.sides.append(max(size_hw))
    if (image.height, image.width) != size_hw:
        turned = "; turned by its EXIF orientation" if (image.width, image.height) == size_hw else ""
        sizes = f"{image.width} x {image.height}, the file has {size_hw[1]} x {size_hw[0]}"
        report.problems.add("images annotated at another size than their file's", f"{name} ({sizes}{turned})")
    report.absent_pairs += len(image.absent_phrases)
    report.empty_images += not any(image.phrases.values())
    for phrase, objects in image.phrases.items():
        report.phrases[phrase].images += 1
        _check_objects(objects, f'{name} "{phrase}"', image, report)
        report.phrases[phrase].objects += sum(not it.crowd for it in objects)


def _check_objects(
    objects: Sequence[ConceptObject], where: str, image: ConceptImage, report: SplitReport
) -> None:
    """The objects of one phrase in one image."""
    seen = set()
    for it in objects:
        report.crowds += it.crowd
        report.objects += not it.crowd
        report.with_mask += it.mask is not None and not it.crowd
        place = f"{where} at {', '.join(f'{value:g}' for value in it.box_xyxy)}"
        doubt = _doubt_box(it, image.width, image.height)
        if doubt is not None:
            report.notes.add(doubt, place)
        if it.mask is not None:
            _check_mask(it, place, image, report)
        if it.box_xyxy in seen:
            report.notes.add("objects of one phrase with the same box", place)
        seen.add(it.box_xyxy)


def _doubt_box(it: ConceptObject, width: int, height: int) -> str | None:
    """What is strange about a box; the gravest if there is more."""
    x0, y0, x1, y1 = it.box_xyxy
    if x1 <= x0 or y1 <= y0:
        return "boxes without area, left out"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return "boxes outside of their image, left out"
    if min(x0, y0) < -OVER_THE_EDGE or x1 > width + OVER_THE_EDGE or y1 > height + OVER_THE_EDGE:
        return "boxes that reach over the edge of their image, cut off there"
    if min(x1 - x0, y1 - y0) < TINY:
        return f"boxes less than {TINY:g} pixels wide or high"
    if x1 - x0 >= WHOLE * width and y1 - y0 >= WHOLE * height:
        return "boxes around the whole image"
    return None


def _check_mask(it: ConceptObject, place: str, image: ConceptImage, report: SplitReport) -> None:
    try:
        # Decoded, since run lengths that do not fill the image are found in no other way.
        mask = it.decode(image.height, image.width)
    except DataError as error:
        report.problems.add("masks that cannot be decoded", f"{place} ({error})")
        return
    if mask is None or not mask.any():
        report.notes.add("masks without a pixel", place)
        return
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    around = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    if _iou(it.box_xyxy, around) < SMALL_OVERLAP:
        report.notes.add("boxes that do not fit their mask", place)


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    inner = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, x1 - x0) * max(0.0, y1 - y0) for x0, y0, x1, y1 in (a, b)]
    union = sum(areas) - inner
    return inner / union if union > 0 else 0.0


def _note_same_pictures(files: Sequence[tuple[str, Path]], notes: Findings) -> None:
    """Pictures in two splits make a model look better than it is; twice in one, only count twice."""
    sizes: dict[int, dict[Path, str]] = {}
    for split, file in files:
        sizes.setdefault(file.stat().st_size, {})[file] = split
    for same_size in sizes.values():
        if len(same_size) < 2:  # files of different sizes differ; only the others are read
            continue
        first: dict[bytes, Path] = {}
        for file, split in same_size.items():
            earlier = first.setdefault(hashlib.blake2b(file.read_bytes()).digest(), file)
            if earlier != file:
                other = same_size[earlier]
                apart = "in two splits" if split != other else "twice in a split"
                notes.add(f"pictures that are there {apart}", f"{other}/{earlier.name} = {split}/{file.name}")
    made_from: dict[str, tuple[str, str]] = {}
    for split, file in files:
        source = source_name(file.name)
        if source == file.name:
            continue
        other, earlier_name = made_from.setdefault(source, (split, file.name))
        if other != split:
            notes.add(
                "pictures made from one that is in another split",
                f"{other}/{earlier_name} and {split}/{file.name}",
            )
