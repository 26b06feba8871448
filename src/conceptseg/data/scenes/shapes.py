"""Plain shapes: every one an outline, some with a hole.

`form` are eight numbers in 0..1 that all objects of a family in a scene share (how pointed its stars are,
how long its rectangles), so that they look alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from conceptseg.data.scenes.outlines import Points, box, disc, polygon, regular, rounded, smooth

Form = tuple[float, ...]


def circle(form: Form) -> list[Points]:
    return [regular(48)]


def ellipse(form: Form) -> list[Points]:
    return [disc(0, 0, 1.0, 0.45 + 0.2 * form[0])]


def square(form: Form) -> list[Points]:
    return [rounded(-0.8, -0.8, 0.8, 0.8, 0.25 * form[0]) if form[1] < 0.4 else box(-0.8, -0.8, 0.8, 0.8)]


def rectangle(form: Form) -> list[Points]:
    height = 0.35 + 0.22 * form[0]
    return [rounded(-1, -height, 1, height, 0.15) if form[1] < 0.3 else box(-1, -height, 1, height)]


def triangle(form: Form) -> list[Points]:
    width, top = 0.75 + 0.35 * form[0], -0.95
    return [polygon((0.4 * (form[1] - 0.5), top), (width, 0.75), (-width, 0.75))]


def star(form: Form) -> list[Points]:
    points = 5 if form[0] < 0.7 else 6 if form[0] < 0.85 else 4
    inner = (0.36 if points < 6 else 0.5) + 0.12 * form[1]
    outline = regular(2 * points).copy()
    outline[1::2] *= inner
    return [outline]


def ring(form: Form) -> list[Points]:
    return [regular(48), disc(0, 0, 0.42 + 0.28 * form[0])]


def cross(form: Form) -> list[Points]:
    arm = 0.22 + 0.16 * form[0]
    return [polygon((-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1),
                    (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm))]  # fmt: skip


def heart(form: Form) -> list[Points]:
    t = np.linspace(0, 2 * math.pi, 48, endpoint=False, dtype=np.float32)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2.5
    return [np.stack([x / 16, y / (14.5 + 2 * form[0])], axis=1).astype(np.float32)]


def diamond(form: Form) -> list[Points]:
    width = 0.52 + 0.16 * form[0]
    return [polygon((0, -1), (width, 0), (0, 1), (-width, 0))]


def pentagon(form: Form) -> list[Points]:
    return [regular(5)]


def hexagon(form: Form) -> list[Points]:
    return [regular(6, 30.0 if form[0] < 0.5 else 0.0)]


def crescent(form: Form) -> list[Points]:
    # The outer arc of one circle, closed by the arc of a second, shifted one.
    half = math.radians(118 + 14 * form[0])
    outer_angles = np.linspace(-half, half, 28, dtype=np.float32) + np.float32(math.pi)
    tip_x, tip_y = -math.cos(half), math.sin(half)
    centre = 0.42 + 0.18 * form[1]
    radius = math.hypot(tip_x - centre, tip_y)
    inner_half = math.atan2(tip_y, centre - tip_x)
    inner_angles = np.linspace(inner_half, -inner_half, 28, dtype=np.float32) + np.float32(math.pi)
    outer = np.stack([np.cos(outer_angles), np.sin(outer_angles)], axis=1)
    inner = np.stack([centre + radius * np.cos(inner_angles), radius * np.sin(inner_angles)], axis=1)
    return [np.concatenate([outer, inner]).astype(np.float32)]


def arrow(form: Form) -> list[Points]:
    shaft, head, neck = 0.14 + 0.14 * form[0], 0.5 + 0.2 * form[1], 0.1 + 0.2 * form[2]
    return [
        polygon((-1, -shaft), (neck, -shaft), (neck, -head), (1, 0), (neck, head), (neck, shaft), (-1, shaft))
    ]


def capsule(form: Form) -> list[Points]:
    height = 0.3 + 0.12 * form[0]
    return [rounded(-1, -height, 1, height, height)]


def drop(form: Form) -> list[Points]:
    belly = 0.55 + 0.12 * form[0]
    return [smooth([(0, -1.05), (0.04, -0.95), (belly, 0.1), (belly * 1.05, 0.75), (0, 1.1),
                    (-belly * 1.05, 0.75), (-belly, 0.1), (-0.04, -0.95)])]  # fmt: skip


SHAPES: dict[str, Callable[[Form], list[Points]]] = {
    "circle": circle,
    "square": square,
    "rectangle": rectangle,
    "triangle": triangle,
    "star": star,
    "ellipse": ellipse,
    "ring": ring,
    "cross": cross,
    "heart": heart,
    "diamond": diamond,
    "pentagon": pentagon,
    "hexagon": hexagon,
    "crescent": crescent,
    "arrow": arrow,
    "capsule": capsule,
    "drop": drop,
}
