"""Masks kept small: N masks of one image as run lengths, whole when asked for.

A photograph of 4032 x 3024 pixels has 12 million of them, so a hundred whole masks take 1.2 GB; as runs they
take about as many numbers as their outlines are long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from conceptseg.errors import ShapeError

# (R, 2): first pixel and one past the last of every run of a mask, numbered down the columns of the image, as
# in COCO; ascending, and no two touch.
Runs: TypeAlias = "npt.NDArray[np.int64]"
Window: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; the last two are one past the end


class CompactMasks:
    """N masks of one image; N may be 0. Iterating gives one whole (H, W) mask at a time."""

    def __init__(self, size_hw: tuple[int, int], runs: Sequence[Runs]) -> None:
        self.size_hw = size_hw
        self.runs = tuple(runs)

    @classmethod
    def from_whole(cls, masks: npt.NDArray[np.bool_]) -> CompactMasks:
        """Args:
            masks: (N, H, W), True = object.

        Raises:
            ShapeError: another shape.
        """
        masks = np.asarray(masks, dtype=np.bool_)
        if masks.ndim != 3:
            raise ShapeError(f"masks have shape {masks.shape}; (N, H, W) is needed")
        height, width = masks.shape[1:]
        return cls((height, width), [runs_of(mask, (0, 0), height) for mask in masks])

    @classmethod
    def concat(cls, parts: Sequence[CompactMasks]) -> CompactMasks:
        """Those of the first, then those of the next; all of one image, and at least one part."""
        return cls(parts[0].size_hw, [runs for part in parts for runs in part.runs])

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[npt.NDArray[np.bool_]]:
        return (self.take([number]).whole()[0] for number in range(len(self)))

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> CompactMasks:
        """The masks of these numbers, in their order."""
        return CompactMasks(self.size_hw, [self.runs[int(row)] for row in rows])

    def whole(self) -> npt.NDArray[np.bool_]:
        """(N, H, W), True = object."""
        masks = np.zeros((len(self), *self.size_hw), dtype=np.bool_)
        for number, mask in enumerate(masks):
            left, top, right, bottom = self.window(number)
            mask[top:bottom, left:right] = self.crop(number)
        return masks

    def window(self, number: int) -> Window:
        """The smallest part of the image that holds a mask; four zeros when it is empty."""
        runs, height = self.runs[number], self.size_hw[0]
        if not len(runs):
            return 0, 0, 0, 0
        columns, rows = np.divmod(runs - (0, 1), height)  # of the first and the last pixel of every run
        over_an_edge = bool((columns[:, 0] != columns[:, 1]).any())  # on in the next column
        top, bottom = (0, height) if over_an_edge else (int(rows.min()), int(rows.max()) + 1)
        return int(columns[0, 0]), top, int(columns[-1, 1]) + 1, bottom

    def crop(self, number: int) -> npt.NDArray[np.bool_]:
        """(h, w): one mask within its window."""
        left, top, right, bottom = self.window(number)
        height = self.size_hw[0]
        changes = (self.runs[number] - left * height).ravel()
        lengths = np.diff(changes, prepend=0, append=(right - left) * height)
        pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return pixels.reshape(right - left, height).T[top:bottom]

    def areas(self) -> npt.NDArray[np.int64]:
        """(N,) in pixels."""
        return np.array([int(np.diff(runs).sum()) for runs in self.runs], dtype=np.int64)

    def rles(self) -> list[dict[str, Any]]:
        """COCO's compressed run lengths, {"size": [H, W], "counts": bytes}, as pycocotools has them."""
        height, width = self.size_hw
        encoded = []
        for runs in self.runs:
            counts = np.diff(runs.ravel(), prepend=0, append=height * width).tolist()
            counts = counts if counts[-1] or len(counts) == 1 else counts[:-1]
            encoded.append(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))
        return encoded


def runs_of(crop: npt.NDArray[np.bool_], corner: tuple[int, int], height: int) -> Runs:
    """Args:
    crop: (h, w), a part of a mask; the rest of it is empty.
    corner: left and top of that part.
    height: of the image.
    """
    (left, top), (rows, columns) = corner, crop.shape
    framed = np.zeros((columns, rows + 2), dtype=np.bool_)  # so that every column begins and ends outside
    framed[:, 1:-1] = crop.T
    changes = np.flatnonzero(framed[:, 1:] != framed[:, :-1])
    column, row = np.divmod(changes, rows + 1)
    runs = ((left + column) * height + top + row).reshape(-1, 2)
    apart = (
        runs[1:, 0] != runs[:-1, 1]
    )  # a run down to the lower edge may go on at the top of the next column
    first, last = np.append(True, apart), np.append(apart, True)
    return np.stack((runs[first[: len(runs)], 0], runs[last[: len(runs)], 1]), axis=1)
