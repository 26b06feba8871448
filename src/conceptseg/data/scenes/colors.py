"""Colour words and the ranges of hue, saturation and value that everyone would call by that word."""

from __future__ import annotations

import colorsys

import numpy as np

from conceptseg.data.scenes.seeding import between

Rgb = tuple[float, float, float]

# Word -> (hue in degrees, saturation, value), each (low, high). The gaps between the ranges are colours
# that two people would name differently; nothing that carries a colour word is painted in them.
HSV_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 5), (0.78, 0.98), (0.66, 0.95)),
    "orange": ((21, 31), (0.82, 1.0), (0.90, 1.0)),
    "yellow": ((48, 57), (0.75, 0.98), (0.90, 1.0)),
    "green": ((95, 148), (0.55, 0.95), (0.38, 0.78)),
    "blue": ((208, 234), (0.65, 0.98), (0.50, 0.95)),
    "purple": ((266, 288), (0.50, 0.85), (0.45, 0.75)),
    "pink": ((326, 345), (0.36, 0.58), (0.92, 1.0)),
    "brown": ((16, 30), (0.55, 0.80), (0.30, 0.50)),
    "black": ((0, 360), (0.0, 0.20), (0.03, 0.11)),
    "white": ((0, 360), (0.0, 0.04), (0.94, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.42, 0.62)),
    "golden": ((38, 46), (0.52, 0.74), (0.72, 0.90)),
}

COLORS = tuple(word for word in HSV_RANGES if word != "golden")
CHROMATIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
ACHROMATIC = ("black", "white", "grey")

# Words that shading, a cast or a dim lamp can turn into each other: never asked against each other.
_UNCLEAR_PAIRS = (
    ("orange", "brown"),
    ("orange", "golden"),
    ("yellow", "golden"),
    ("brown", "golden"),
    ("red", "brown"),
    ("pink", "purple"),
    ("black", "grey"),
    ("white", "grey"),
    ("brown", "black"),
    ("pink", "red"),
)
UNCLEAR: dict[str, frozenset[str]] = {
    word: frozenset(other for pair in _UNCLEAR_PAIRS if word in pair for other in pair if other != word)
    for word in HSV_RANGES
}


def sample_color(rng: np.random.Generator, word: str) -> Rgb:
    """Red, green and blue in 0..1 that the word names without doubt."""
    hue, saturation, value = (between(rng, *bounds) for bounds in HSV_RANGES[word])
    return colorsys.hsv_to_rgb(hue % 360.0 / 360.0, saturation, value)


def luminance(color: Rgb) -> float:
    """Rec. 601 luma in 0..1, the weights Pillow's greyscale conversion uses."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def distance(first: Rgb, second: Rgb) -> float:
    """How far apart two colours look: luma counts most, then the colour difference."""
    chroma = sum(abs(a - b) for a, b in zip(first, second, strict=True)) / 3
    return 0.6 * abs(luminance(first) - luminance(second)) + 0.6 * chroma


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """`share` of the second colour in the first."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )
