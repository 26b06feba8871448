"""Some images of a split, as a split: to fit on one part of the data and judge on another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conceptseg.data.concept_image import ConceptImage
from conceptseg.data.formats.split import Split


class PartOfSplit(Split):
    """The images of another split that have these numbers, in this order."""

    def __init__(self, whole: Split, numbers: Sequence[int]) -> None:
        self.layout, self.source = whole.layout, whole.source
        self.phrases, self.samples_absent = whole.phrases, whole.samples_absent
        self._whole = whole
        self._numbers = list(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        files = self._whole.image_files()
        return [files[number] for number in self._numbers]

    def read(self, index: int) -> ConceptImage:
        return self._whole.read(self._numbers[index])

    def has_masks(self) -> bool:
        return self._whole.has_masks()
