"""The same object once more: nearer or farther, on another background, or partly covered.

Each function takes a picture and an object and gives back both, changed; the picture keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conceptseg.exemplars.gap_pictures import ShownObject

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
COVERED = 0.4  # share of the object's box that something else hides
MOST_OF_IMAGE = 0.9  # a box that would be longer than this share of the image is not enlarged


def zoom(pixels: Pixels, it: ShownObject, factor: float) -> tuple[Pixels, Box] | None:
    """Enlarge (or shrink) the picture about the object's centre, which stays where it is.

    What comes into sight when a picture shrinks is its own mirror image.

    Returns:
        The picture and the object's box in it; None where the object would not fit.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = it.box_xyxy
    if factor * (x1 - x0) > MOST_OF_IMAGE * width or factor * (y1 - y0) > MOST_OF_IMAGE * height:
        return None
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = cx - cx / factor, cy - cy / factor  # what the new picture shows of the old one
    right, bottom = cx + (width - cx) / factor, cy + (height - cy) / factor
    border = math.ceil(max(0.0, -left, -top, right - width, bottom - height))
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="symmetric")
    seen = (left + border, top + border, right + border, bottom + border)
    picture = Image.fromarray(padded).resize((width, height), Image.Resampling.BILINEAR, box=seen)
    half_w, half_h = factor * (x1 - x0) / 2, factor * (y1 - y0) / 2
    box = (
        max(cx - half_w, 0.0),
        max(cy - half_h, 0.0),
        min(cx + half_w, float(width)),
        min(cy + half_h, float(height)),
    )
    return np.asarray(picture), box


def on_another_background(pixels: Pixels, it: ShownObject, background: Pixels) -> Pixels | None:
    """The object alone, cut out by its mask, on another picture; None where there is no mask."""
    if it.mask is None:
        return None
    return np.where(it.mask[..., None], pixels, _stretched(background, pixels))


def partly_covered(pixels: Pixels, it: ShownObject, cover: Pixels, rng: np.random.Generator) -> Pixels:
    """`COVERED` of the object's box, from one of its sides on, hidden by the same place of another."""
    x0, y0, x1, y1 = it.box_xyxy
    left, top, right, bottom = round(x0), round(y0), round(x1), round(y1)
    side = int(rng.integers(4))
    across, down = round(COVERED * (right - left)), round(COVERED * (bottom - top))
    rows, columns = {
        0: (slice(top, bottom), slice(left, left + across)),
        1: (slice(top, bottom), slice(right - across, right)),
        2: (slice(top, top + down), slice(left, right)),
        3: (slice(bottom - down, bottom), slice(left, right)),
    }[side]
    changed = pixels.copy()
    changed[rows, columns] = _stretched(cover, pixels)[rows, columns]
    return changed


def another(pictures: Sequence[Pixels], number: int) -> Pixels:
    """A picture to change this one with: the one after it, or itself upside down where it is the only one."""
    if len(pictures) == 1:
        return np.ascontiguousarray(pictures[0][::-1, ::-1])
    return pictures[(number + 1) % len(pictures)]


def _stretched(picture: Pixels, like: Pixels) -> Pixels:
    height, width = like.shape[:2]
    if picture.shape == like.shape:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
