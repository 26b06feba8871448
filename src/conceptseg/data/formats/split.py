"""What every format gives: the images of one split, as they are annotated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from conceptseg.data.concept_image import ConceptImage
from conceptseg.errors import DataError, ImageError
from conceptseg.images import upright_size

SHOWN = 3  # offenders that a message names


class Split(ABC):
    """One split as it is annotated, before anything is left out or sampled.

    Attributes:
        layout: name of the format, for people.
        source: file or folder of the annotations, for messages.
        phrases: all of the data, sorted.
        samples_absent: a phrase without objects in an image is absent from it, and the data names no absent
            phrases itself.
    """

    layout: str
    source: Path
    phrases: tuple[str, ...]
    samples_absent: bool

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        """Of each image its name in the annotations, and its file; None where there is no such file."""

    @abstractmethod
    def read(self, index: int) -> ConceptImage:
        """One image as it is annotated: boxes may be empty or reach outside.

        Raises:
            DataError: its annotations are malformed, or its size is not known.
        """

    @abstractmethod
    def has_masks(self) -> bool:
        """Every object has a mask, crowds apart; False where there is no object at all."""

    def refuse_missing_files(self) -> None:
        """Raises:
        DataError: images are annotated that are not there; names the first.
        """
        missing = [name for name, file in self.image_files() if file is None]
        if missing:
            raise DataError(
                f"{self.source}: {len(missing):,} of {len(self):,} images have no file: {first_of(missing)}; "
                "say where the images lie with images (--images)"
            )


def first_of(offenders: Iterable[str]) -> str:
    """The first offenders, and that there are more."""
    names = list(offenders)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def size_of_file(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture, from the file's header.

    Raises:
        DataError: the file is no image that can be read.
    """
    try:
        return upright_size(path)
    except ImageError as error:
        raise DataError(str(error)) from error
