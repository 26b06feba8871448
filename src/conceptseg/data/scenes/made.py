"""Things that people make: coins, buttons, cups, houses, cars, keys and so on."""

from __future__ import annotations

import math

import numpy as np

from conceptseg.data.scenes.colors import Rgb, mix
from conceptseg.data.scenes.drawing import Drawing, Parts
from conceptseg.data.scenes.outlines import at, bar, blob, box, disc, polygon, regular, smooth
from conceptseg.data.scenes.paint import BLACK, DARK, WHITE, WOOD, Artist, Form, Paint


def coin(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    worn = 0.005 + 0.045 * form[0] * float(rng.random())
    stretch = 1.0 - 0.10 * form[1] * float(rng.random())
    outline = blob(rng, worn, harmonics=6) * np.array([1.0, stretch], np.float32)
    return Drawing([(outline, paint.base)], shade="relief")


def button(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = [(regular(48), paint.base)]
    if form[0] < 0.6:
        parts += [(disc(0, 0, 0.76), paint.darker(0.25)), (disc(0, 0, 0.7), paint.base)]
    holes, gap = (4, 0.3) if form[1] < 0.6 else (2, 0.28)
    for number in range(holes):
        angle = 2 * math.pi * (number + 0.5) / holes
        parts.append(
            (disc(gap * math.cos(angle), gap * math.sin(angle), 0.13), paint.ink() if form[2] < 0.7 else None)
        )
    return Drawing(parts, shade="bevel")


def ball(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    return Drawing([(regular(48), paint.base)], shade="sphere")


def cup(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    taper, top = 0.06 + 0.14 * form[0], 0.62
    parts: Parts = [(disc(0.6, 0.05, 0.4, 0.48), paint.darker(0.12)), (disc(0.6, 0.05, 0.23, 0.3), None)]
    body = polygon((-top, -0.75), (top, -0.75), (top - taper, 0.72), (top - taper - 0.14, 0.86),
                   (-top + taper + 0.14, 0.86), (-top + taper, 0.72))  # fmt: skip
    inside = mix(paint.darker(0.5), (0.25, 0.14, 0.07), 0.6 if form[1] < 0.5 else 0.0)
    parts += [
        (body, paint.base),
        (disc(0, -0.75, top, 0.17), paint.lighter(0.25)),
        (disc(0, -0.75, top - 0.08, 0.12), inside),
    ]
    parts = [(points - at(0.19, 0.0), fill) for points, fill in parts]
    return Drawing(parts, shade="cylinder")


def bottle(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    half, neck = 0.3 + 0.08 * form[0], 0.11 + 0.04 * form[1]
    body = smooth([(-neck, -0.85), (neck, -0.85), (neck, -0.45), (half, -0.15), (half, 0.1),
                   (half, 0.97), (half, 0.98), (-half, 0.98), (-half, 0.97), (-half, 0.1),
                   (-half, -0.15), (-neck, -0.45)], 2)  # fmt: skip
    label = WHITE if form[2] < 0.6 else paint.lighter(0.6)
    return Drawing(
        [
            (body, paint.base),
            (box(-neck - 0.03, -1.0, neck + 0.03, -0.8), paint.darker(0.45)),
            (box(-half + 0.01, 0.2, half - 0.01, 0.66), label),
        ],
        shade="cylinder",
        extra_colors=frozenset({"white"}),
    )


def house(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    half, eaves = 0.72 + 0.12 * form[0], -0.2 + 0.2 * form[1]
    window = (0.72, 0.84, 0.92) if form[2] < 0.5 else (0.20, 0.24, 0.30)
    parts: Parts = [(box(-half, eaves, half, 0.9), paint.base)]
    if form[3] < 0.5:
        parts.append((box(0.32, -0.95, 0.5, eaves), (0.45, 0.25, 0.2)))
    parts.append((polygon((-half - 0.15, eaves), (0, -1.0), (half + 0.15, eaves)), paint.accent))
    parts.append((box(-0.16, 0.38, 0.16, 0.9), WOOD))
    for x in (-0.5, 0.3):
        parts.append((box(x, eaves + 0.18, x + 0.22, eaves + 0.42), window))
    return Drawing(parts, shade="lit", extra_colors=frozenset({paint.accent_word}))


def car(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    roof, nose = -0.5 - 0.12 * form[0], 0.34 + 0.2 * form[1]
    body = smooth([(-1, 0.0), (-0.92, -0.06), (-0.6, -0.1), (-0.42, roof), (-0.3, roof),
                   (nose - 0.1, roof), (nose, roof), (nose + 0.28, -0.08), (0.9, 0.0),
                   (1.02, 0.1), (1.02, 0.34), (0.98, 0.38), (-1, 0.38), (-1.02, 0.32)], 1)  # fmt: skip
    glass = (0.70, 0.82, 0.90) if form[2] < 0.5 else (0.16, 0.19, 0.24)
    parts: Parts = [
        (body, paint.base),
        (polygon((-0.44, -0.12), (-0.32, roof + 0.09), (-0.05, roof + 0.09), (-0.05, -0.12)), glass),
        (
            polygon((0.03, -0.12), (0.03, roof + 0.09), (nose - 0.06, roof + 0.09), (nose + 0.14, -0.12)),
            glass,
        ),
    ]
    for x in (-0.56, 0.56):
        parts += [(disc(x, 0.36, 0.24), BLACK), (disc(x, 0.36, 0.11), (0.62, 0.62, 0.64))]
    parts.append((disc(0.95, 0.12, 0.06), (0.98, 0.93, 0.7)))
    return Drawing(parts, shade="lit", extra_colors=frozenset({"black"}))


def key(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    bow = [(regular(6) if form[0] < 0.3 else disc()) * np.float32(0.42) + at(-0.58, 0)]
    parts: Parts = [
        (box(-0.3, -0.09, 0.98, 0.09), paint.base),
        (bow[0], paint.base),
    ]
    parts.append((disc(-0.62, 0, 0.16 + 0.1 * form[1]), None))
    for x in (0.5, 0.72, 0.9)[: 2 + int(form[2] > 0.5)]:
        parts.append((box(x - 0.05, 0.05, x + 0.06, 0.2 + 0.16 * form[3]), paint.base))
    return Drawing(parts, shade="metal")


def cookie(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = [(blob(rng, 0.04, harmonics=7), paint.base)]
    for _ in range(5 + int(form[0] * 6)):
        angle, radius = 2 * math.pi * float(rng.random()), 0.78 * math.sqrt(float(rng.random()))
        parts.append(
            (
                disc(radius * math.cos(angle), radius * math.sin(angle), 0.1 + 0.06 * form[1]),
                mix(paint.ink(), WOOD, 0.25),
            )
        )
    return Drawing(parts, shade="stony")


def clock(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    dial = WHITE if form[0] < 0.8 else (0.93, 0.89, 0.78)
    parts: Parts = [(regular(48), paint.base), (disc(0, 0, 0.8), dial)]
    for number in range(12):
        x, y = math.sin(math.pi * number / 6), -math.cos(math.pi * number / 6)
        parts.append((bar(0.62 * x, 0.62 * y, 0.72 * x, 0.72 * y, 0.06), BLACK))
    for reach, width in ((0.42, 0.1), (0.6, 0.07)):
        angle = 2 * math.pi * float(rng.random())
        parts.append((bar(0, 0, reach * math.sin(angle), -reach * math.cos(angle), width), BLACK))
    return Drawing(parts, shade="lit", extra_colors=frozenset({"white"}))


def book(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    half = 0.66 + 0.1 * form[0]
    pages: Rgb = (0.92, 0.90, 0.84)
    parts: Parts = [
        (box(-half, -1, half, 1), paint.darker(0.25)),
        (box(-half + 0.1, -0.96, half + 0.0, 0.94), pages),
        (box(-half, -1, half - 0.07, 0.9), paint.base),
        (box(-half, -1, -half + 0.14, 0.9), paint.darker(0.3)),
        (box(-0.3, -0.6, 0.35, -0.42), paint.lighter(0.65)),
        (box(-0.2, -0.3, 0.25, -0.2), paint.lighter(0.65)),
    ]
    return Drawing(parts, shade="lit")


def umbrella(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    angles = np.linspace(math.pi, 2 * math.pi, 24, dtype=np.float32)
    dome = np.stack([np.cos(angles), 0.05 + np.sin(angles)], axis=1)
    hem = polygon((0.83, -0.06), (0.67, 0.05), (0.5, -0.06), (0.33, 0.05), (0.17, -0.06),
                  (0, 0.05), (-0.17, -0.06), (-0.33, 0.05), (-0.5, -0.06), (-0.67, 0.05),
                  (-0.83, -0.06))  # fmt: skip
    canopy = np.concatenate([dome, hem]).astype(np.float32)
    parts: Parts = [
        (box(-0.045, -0.1, 0.045, 0.85), DARK),
        (bar(0.0, 0.85, -0.2, 0.95, 0.09), DARK),
    ]
    parts += [
        (canopy, paint.base),
        (polygon((-0.04, -0.95), (0.33, 0.05), (-0.33, 0.05)), paint.lighter(0.16)),
    ]
    return Drawing(parts, shade="lit")


def boat(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    hull = polygon((-1, 0.35), (1, 0.35), (0.68, 0.9), (-0.7, 0.9))
    sail = WHITE if form[0] < 0.6 else (0.93, 0.86, 0.72)
    parts: Parts = [
        (bar(0, 0.4, 0, -1, 0.07), WOOD),
        (polygon((0.07, -0.95), (0.8, 0.22), (0.07, 0.22)), sail),
        (polygon((-0.07, -0.75), (-0.6, 0.22), (-0.07, 0.22)), mix(sail, BLACK, 0.1)),
        (hull, paint.base),
    ]
    return Drawing(parts, shade="lit", extra_colors=frozenset({"white"}))


def nut(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    return Drawing([(regular(6), paint.base), (disc(0, 0, 0.5 + 0.08 * form[0]), None)], shade="metal")


MADE: dict[str, Artist] = {
    "coin": coin,
    "button": button,
    "ball": ball,
    "cup": cup,
    "bottle": bottle,
    "house": house,
    "car": car,
    "key": key,
    "cookie": cookie,
    "clock": clock,
    "book": book,
    "umbrella": umbrella,
    "boat": boat,
    "nut": nut,
}
