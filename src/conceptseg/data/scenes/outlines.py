"""Unit outlines that drawings are made of: (N, 2) points, x right and y down, about within -1..1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]


@lru_cache(maxsize=64)
def regular(corners: int, turn: float = 0.0) -> Points:
    """A regular polygon of radius 1; `turn` in degrees, 0 puts the first corner on top."""
    angles = np.arange(corners, dtype=np.float32) * np.float32(2 * math.pi / corners) + np.float32(
        math.radians(turn) - math.pi / 2
    )
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    points.setflags(write=False)
    return points


def disc(x: float = 0.0, y: float = 0.0, radius: float = 1.0, radius_y: float | None = None) -> Points:
    """A circle, or an ellipse when `radius_y` is given."""
    size = np.array([radius, radius if radius_y is None else radius_y], np.float32)
    return regular(36) * size + np.array([x, y], np.float32)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An upright rectangle."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> Points:
    """An upright rectangle with round corners."""
    radius = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    circle = regular(32, 45.0) * np.float32(radius)
    corners = np.array(
        [
            [x1 - radius, y0 + radius],
            [x1 - radius, y1 - radius],
            [x0 + radius, y1 - radius],
            [x0 + radius, y0 + radius],
        ],
        np.float32,
    )
    # regular(32, 45) starts towards the upper right; each quarter belongs to the next corner clockwise.
    quarters = np.roll(circle, 4, axis=0).reshape(4, 8, 2)
    return (quarters + corners[:, None, :]).reshape(-1, 2)


def at(x: float, y: float) -> Points:
    """One point or a factor for each direction, (2,)."""
    return np.array([x, y], np.float32)


def polygon(*points: tuple[float, float]) -> Points:
    """The given corners in order."""
    return np.array(points, np.float32)


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> Points:
    """A straight stroke from one point to another."""
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
    return polygon((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy))


def smooth(points: Sequence[tuple[float, float]], rounds: int = 3) -> Points:
    """A closed smooth curve near the given corners (Chaikin's corner cutting)."""
    curve = np.array(points, np.float32)
    for _ in range(rounds):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], axis=1).reshape(
            -1, 2
        )
    return curve


@lru_cache(maxsize=16)
def _waves(harmonics: int, corners: int) -> tuple[NDArray[np.float32], Points]:
    angles = np.arange(corners) * (2 * math.pi / corners)
    orders = np.arange(harmonics)[:, None] + 2
    weights = 1.0 / (np.arange(harmonics)[:, None] + 1.5)
    table = np.concatenate([weights * np.cos(orders * angles), weights * np.sin(orders * angles)])
    return table.astype(np.float32), np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def blob(rng: np.random.Generator, roughness: float, harmonics: int = 5, corners: int = 48) -> Points:
    """A round outline with waves: 0 is a circle, 0.3 a pebble. The farthest point has radius 1."""
    table, unit = _waves(harmonics, corners)
    radius = 1 + np.float32(roughness) * (rng.standard_normal(2 * harmonics).astype(np.float32) @ table)
    radius = np.maximum(radius, 0.35)
    return unit * (radius / radius.max())[:, None]
