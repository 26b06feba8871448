"""One image of a labelled dataset: which phrases are true of what in it, and which of nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from conceptseg.errors import DataError

Rle: TypeAlias = dict[str, Any]  # {"size": [height, width], "counts": text or bytes}
Polygons: TypeAlias = list[list[float]]  # x0, y0, x1, y1, ... in pixels; the object is their union
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class ConceptObject:
    """One object that a phrase names."""

    box_xyxy: Box  # pixels
    mask: Rle | Polygons | None = None  # None where only the box is known
    crowd: bool = False  # a region of several objects that nobody told apart: neither to find nor to miss

    def rle(self, height: int, width: int) -> Rle | None:
        """The mask as compressed run lengths, {"size": [height, width], "counts": bytes}; None without mask.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.

        Raises:
            DataError: the run lengths are damaged, or belong to an image of another size.
        """
        if self.mask is None:
            return None
        if isinstance(self.mask, list):
            encoded: Rle = coco_mask.merge(coco_mask.frPyObjects(self.mask, height, width))
            return encoded
        if list(self.mask["size"]) != [height, width]:
            raise DataError(
                f"a mask of {self.mask['size']} lies on an image of {[height, width]} (height, width)"
            )
        counts = self.mask["counts"]
        return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}

    def decode(self, height: int, width: int) -> npt.NDArray[np.bool_] | None:
        """(height, width), True = object; None where only the box is known.

        Raises:
            DataError: the run lengths are damaged, or belong to an image of another size.
        """
        encoded = self.rle(height, width)
        if encoded is None:
            return None
        if isinstance(self.mask, dict) and not _fills(encoded["counts"], height * width):
            raise DataError("the run lengths of a mask are damaged: they do not fill its image")
        return np.asarray(coco_mask.decode(encoded)).astype(np.bool_)


@dataclass(frozen=True)
class ConceptImage:
    """One image and what is known about it; phrases in neither list are unknown."""

    path: Path
    width: int  # pixels, of the upright picture
    height: int
    phrases: dict[str, list[ConceptObject]]  # present phrases -> objects
    absent_phrases: tuple[str, ...] = ()  # known (or sampled) to name nothing here
    incomplete_phrases: frozenset[str] = frozenset()  # present, but some of their objects are not annotated


def _fills(counts: bytes, pixels: int) -> bool:
    """Whether compressed run lengths add up to an image; pycocotools fills what they leave with old memory.

    A run is written in groups of five bits, lowest first; from the fourth on, as the difference to the last
    but one. Source: cocodataset/cocoapi `common/maskApi.c`.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        group = byte - 48
        if not 0 <= group < 64:
            return False
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return shift == 0 and min(runs, default=-1) >= 0 and sum(runs) == pixels
