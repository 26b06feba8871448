"""Masks as polygons, for tools that know no run lengths.

The outline of a mask runs along the edges of its pixels. A part is a set of pixels that hang together by
their sides; its holes are joined to its outline by lines without width, which fill nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from conceptseg.compact_masks import CompactMasks

Polygon: TypeAlias = (
    "npt.NDArray[np.float64]"  # (P, 2), x and y in pixels of the image; the end is not repeated
)


def mask_polygons(masks: CompactMasks, number: int, tolerance: float = 0.0) -> list[Polygon]:
    """One polygon for each part of a mask, the largest first; none when it is empty.

    Args:
        masks: of one image.
        number: of the mask.
        tolerance: how far in pixels the polygon may lie off the outline. 0 follows every pixel.
    """
    if not len(masks.runs[number]):
        return []
    crop = masks.crop(number)
    parts, count = ndimage.label(crop)  # pixels hang together by their sides
    outlines: list[Polygon | None] = [None] * (count + 1)
    holes = []
    for loop in _loops(crop):
        x, y = loop[np.lexsort((loop[:, 0], loop[:, 1]))[0]].astype(int)  # the upper, then left one
        solid = crop[y, x]  # below and right of the first corner of a part is the part, of a hole the hole
        # Holes go round the other way, so that they stay empty whichever rule a tool fills by.
        polygon = _simplified(loop if (_area(loop) > 0) == solid else loop[::-1], tolerance)
        if solid:
            outlines[parts[y, x]] = polygon
        else:
            holes.append((parts[y - 1, x], polygon))
    for part, hole in holes:
        outline = outlines[part]
        assert outline is not None  # every part has one
        outlines[part] = joined(outline, hole)
    corner = masks.window(number)[:2]
    found = [outline + corner for outline in outlines if outline is not None]
    return sorted(found, key=lambda polygon: -abs(_area(polygon)))


def joined(polygon: Polygon, other: Polygon) -> Polygon:
    """One polygon that goes over to the other at the nearest corners, round it, and back the same way."""
    distances, corners = KDTree(polygon).query(other)
    there = int(distances.argmin())
    here = int(corners[there])
    across = np.concatenate((other[there:], other[: there + 1]))
    return np.concatenate((polygon[: here + 1], across, polygon[here:]))


def _loops(crop: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Closed outlines of a mask, corner by corner.

    In a row of corners the first and second are ends of one edge, the third and fourth of the next; so in a
    column. Where two pixels touch by a corner only, that corner is there twice, once for either pixel.
    """
    framed = np.pad(crop, 1)
    nw, ne, sw, se = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    once = nw ^ ne ^ sw ^ se
    falling, rising = nw & se & ~ne & ~sw, ne & sw & ~nw & ~se
    y, x = np.nonzero(once | falling | rising)
    twice = ~once[y, x]
    y, x, second = (
        np.concatenate((values, extra))
        for values, extra in (
            (y, y[twice]),
            (x, x[twice]),
            (np.zeros(len(y), int), np.ones(twice.sum(), int)),
        )
    )
    # The first of two goes left, the second right; of falling ones the first goes up, of rising ones down.
    along_row = _partners(np.lexsort((second, x, y)))
    along_column = _partners(np.lexsort((second ^ rising[y, x], y, x)))
    corners = np.stack((x, y), axis=1).astype(np.float64)
    loops, left = [], np.ones(len(corners), dtype=bool)
    for start in range(len(corners)):
        if not left[start]:
            continue
        loop, at = [], start
        while left[at]:
            across = along_row[at]
            loop += [at, across]
            left[at] = left[across] = False
            at = along_column[across]
        loops.append(corners[loop])
    return loops


def _partners(order: npt.NDArray[np.int64]) -> list[int]:
    """The other of each two that follow each other."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return [int(partner) for partner in partners]


def _simplified(loop: Polygon, tolerance: float) -> Polygon:
    """Fewer corners (Douglas and Peucker 1973), but never so few that nothing is inside."""
    if tolerance == 0:
        return loop
    far = int(np.square(loop - loop[0]).sum(1).argmax())
    closed = np.concatenate((loop, loop[:1]))
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, far, len(loop)]] = True
    spans = [(0, far), (far, len(loop))]
    while spans:
        first, last = spans.pop()
        between = closed[first + 1 : last] - closed[first]
        if not len(between):
            continue
        way = closed[last] - closed[first]
        along = np.clip(between @ way / max(float(way @ way), 1e-12), 0, 1)
        off = np.square(between - along[:, None] * way).sum(1)
        if off.max() > tolerance**2:
            middle = first + 1 + int(off.argmax())
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    simple = loop[kept[:-1]]
    return simple if len(simple) > 2 and abs(_area(simple)) > 0 else loop


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
