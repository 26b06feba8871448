"""The worst misses and the worst false positives of an evaluation, kept small until they are drawn.

An object is missed when no counted detection takes it at IoU 0.5; a detection is false when it takes no
object. Of a whole dataset only a handful of pairs is kept, as run lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.compact_masks import CompactMasks
from conceptseg.evaluation.average_precision import Matches
from conceptseg.evaluation.cgf1 import ConceptPair
from conceptseg.evaluation.regions import Rle
from conceptseg.images import load_image
from conceptseg.plots import Color, Mark, draw_marks

RIGHT_COLOR: Color = (120, 220, 80)
FALSE_COLOR: Color = (255, 160, 40)
MISSED_COLOR: Color = (255, 60, 60)
PICTURE_SIDE = 1024  # pixels; larger images are drawn smaller
_MOST_DRAWN = 300  # masks in one picture
_AT_50 = 0  # row of IoU 0.5


@dataclass(frozen=True)
class Region:
    """An object or a detection."""

    box_xyxy: tuple[float, float, float, float]
    mask: Rle | None
    score: float | None = None  # None: an object of the annotations


@dataclass(frozen=True)
class Mistake:
    """One (image, phrase) pair, and what went wrong in it."""

    path: Path
    phrase: str
    missed: tuple[Region, ...]  # largest first
    false: tuple[Region, ...]  # best score first
    right: tuple[Region, ...]  # detections

    def describe(self) -> str:
        return f"{len(self.missed)} missed, {len(self.false)} false, {len(self.right)} right"


class WorstMistakes:
    """Keeps the pairs with the most missed objects and those with the surest false positives.

    Each image appears once in either list, so that one hard image does not fill it.
    """

    def __init__(self, most: int, threshold: float) -> None:
        self.most = most
        self.threshold = threshold
        self._misses: list[tuple[tuple[float, ...], Mistake]] = []
        self._false: list[tuple[tuple[float, ...], Mistake]] = []

    def add(self, path: Path, phrase: str, pair: ConceptPair, matches: Matches) -> None:
        """Look at one pair; `matches` are those of its masks, or of its boxes where it has none."""
        order = matches.order[np.asarray(pair.scores)[matches.order] >= self.threshold]
        found, ignored = matches.found[_AT_50, : len(order)], matches.ignored[_AT_50, : len(order)]
        targets = 0 if pair.target_boxes is None else len(pair.target_boxes)
        crowd = np.zeros(targets, bool) if pair.ignored is None else pair.ignored
        missed = [g for g in range(targets) if not crowd[g] and g not in found]
        false = [int(p) for p in order[found < 0]]
        miss_key = (float(len(missed)), len(missed) / targets if targets else 0.0)
        false_key = (float(pair.scores[false[0]]), float(len(false))) if false else (0.0,)
        wanted_miss = bool(missed) and self._enters(self._misses, path, miss_key)
        wanted_false = bool(false) and self._enters(self._false, path, false_key)
        if not (wanted_miss or wanted_false):
            return
        right = [int(p) for p in order[(found >= 0) & ~ignored]]
        mistake = Mistake(
            path,
            phrase,
            missed=tuple(sorted((_target(pair, g) for g in missed), key=_area, reverse=True)),
            false=tuple(_prediction(pair, p) for p in false),
            right=tuple(_prediction(pair, p) for p in right),
        )
        if wanted_miss:
            self._misses = self._entered(self._misses, miss_key, mistake)
        if wanted_false:
            self._false = self._entered(self._false, false_key, mistake)

    @property
    def misses(self) -> list[Mistake]:
        """Most missed objects first."""
        return [mistake for _, mistake in self._misses]

    @property
    def false_positives(self) -> list[Mistake]:
        """Surest false positive first."""
        return [mistake for _, mistake in self._false]

    def _enters(
        self, kept: list[tuple[tuple[float, ...], Mistake]], path: Path, key: tuple[float, ...]
    ) -> bool:
        for other, mistake in kept:
            if mistake.path == path:
                return key > other
        return len(kept) < self.most or (bool(kept) and key > kept[-1][0])

    def _entered(
        self, kept: list[tuple[tuple[float, ...], Mistake]], key: tuple[float, ...], mistake: Mistake
    ) -> list[tuple[tuple[float, ...], Mistake]]:
        others = [entry for entry in kept if entry[1].path != mistake.path]
        return sorted([*others, (key, mistake)], key=lambda entry: entry[0], reverse=True)[: self.most]


def draw_mistake(mistake: Mistake) -> Image.Image:
    """The image with missed objects in red, false detections in orange and right ones in green.

    Raises:
        ImageError: the image is no longer there.
    """
    pixels = load_image(mistake.path).pixels
    scale = min(1.0, PICTURE_SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    groups = (
        (mistake.missed, MISSED_COLOR),
        (mistake.false, FALSE_COLOR),
        (mistake.right, RIGHT_COLOR),
    )
    marks = [_mark(region, color, (height, width), scale) for regions, color in groups for region in regions]
    headline = f"{mistake.phrase}: {mistake.describe()}"
    return draw_marks(small, marks[:_MOST_DRAWN], [(headline, (255, 255, 255))])


def _mark(region: Region, color: Color, size_hw: tuple[int, int], scale: float) -> Mark:
    x0, y0, x1, y1 = (side * scale for side in region.box_xyxy)
    label = "" if region.score is None else f"{region.score:.2f}"
    mask = None if region.mask is None else _small_mask(region.mask, size_hw)
    return Mark(mask, (x0, y0, x1, y1), color, label)


def _small_mask(rle: Rle, size_hw: tuple[int, int]) -> CompactMasks:
    """One mask at the size of the picture, by the nearest pixel."""
    full: NDArray[np.uint8] = coco_mask.decode(rle)
    rows, columns = (
        ((np.arange(small) + 0.5) * side / small).astype(np.int64)
        for small, side in zip(size_hw, full.shape, strict=True)
    )
    return CompactMasks.from_whole(full[rows][:, columns][None])


def _target(pair: ConceptPair, index: int) -> Region:
    assert pair.target_boxes is not None
    mask = None if pair.target_masks is None else pair.target_masks[index]
    return Region(_box(pair.target_boxes[index]), mask)


def _prediction(pair: ConceptPair, index: int) -> Region:
    assert pair.predicted_boxes is not None
    # Where the objects are boxes, boxes are compared, and so boxes are drawn.
    mask = None if pair.target_masks is None or pair.predicted_masks is None else pair.predicted_masks[index]
    return Region(_box(pair.predicted_boxes[index]), mask, float(pair.scores[index]))


def _box(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in values)
    return x0, y0, x1, y1


def _area(region: Region) -> float:
    x0, y0, x1, y1 = region.box_xyxy
    return (x1 - x0) * (y1 - y0)
