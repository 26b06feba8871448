"""Fruit, leaves, flowers, trees, stones and animals, each drawn from coloured outlines."""

from __future__ import annotations

import math

import numpy as np

from conceptseg.data.scenes.drawing import Drawing, Parts
from conceptseg.data.scenes.outlines import at, bar, blob, box, disc, polygon, regular, smooth
from conceptseg.data.scenes.paint import BLACK, DARK, GREEN, STALK, WHITE, WOOD, Artist, Form, Paint


def apple(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    body = smooth([(0, -0.62), (0.45, -0.85), (0.98, -0.45), (0.9, 0.35), (0.45, 0.98),
                   (0.1, 0.9), (-0.1, 0.9), (-0.45, 0.98), (-0.9, 0.35), (-0.98, -0.45),
                   (-0.45, -0.85)])  # fmt: skip
    parts: Parts = [(bar(0, -0.55, 0.12, -1.0, 0.11), STALK), (body, paint.base)]
    parts.append((disc(0, -0.62, 0.2, 0.08), paint.darker(0.45)))
    if form[0] < 0.6:
        parts.append((smooth([(0.08, -0.8), (0.35, -1.05), (0.62, -0.95), (0.35, -0.75)], 2), GREEN))
    return Drawing(parts, shade="sphere")


def orange(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    body = disc(0, 0, 1.0, 0.94 + 0.06 * form[0])
    mark = regular(10).copy() * np.float32(0.14)
    mark[1::2] *= 0.5
    return Drawing([(body, paint.base), (mark + at(0.1, -0.72), GREEN)], shade="dimpled")


def pear(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    neck = 0.26 + 0.1 * form[0]
    body = smooth([(0, -0.82), (neck, -0.7), (neck + 0.05, -0.25), (0.75, 0.3), (0.6, 0.98),
                   (0, 1.02), (-0.6, 0.98), (-0.75, 0.3), (-neck - 0.05, -0.25), (-neck, -0.7)])  # fmt: skip
    return Drawing([(bar(0, -0.7, 0.14, -1.02, 0.1), STALK), (body, paint.base)], shade="sphere")


def lemon(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    height = 0.62 + 0.08 * form[0]
    body = smooth([(-1.02, -0.1), (-0.8, -0.22), (-0.45, -height), (0.45, -height), (0.8, -0.22),
                   (1.02, -0.1), (1.02, 0.1), (0.8, 0.22), (0.45, height), (-0.45, height),
                   (-0.8, 0.22), (-1.02, 0.1)])  # fmt: skip
    return Drawing([(body, paint.base)], shade="dimpled")


def banana(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    half = 0.95 + 0.25 * form[0]
    along = np.linspace(-half, half, 20, dtype=np.float32)
    width = 0.19 * np.cos(along / half * 1.25) + 0.05
    centre_x, centre_y = np.sin(along), np.cos(along) - 0.75
    outer = np.stack([centre_x * (1 + width), centre_y + width * np.cos(along)], axis=1)
    inner = np.stack([centre_x * (1 - width), centre_y - width * np.cos(along)], axis=1)[::-1]
    body = (np.concatenate([outer, inner]) * 0.95).astype(np.float32)
    tip = (outer[:3].mean(0) + inner[-3:].mean(0)) / 2 * 0.95
    return Drawing([(body, paint.base), (disc(float(tip[0]), float(tip[1]), 0.08), WOOD)], shade="bevel")


def strawberry(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    body = smooth([(0, -0.6), (0.6, -0.72), (0.88, -0.3), (0.5, 0.55), (0, 1.05), (-0.5, 0.55),
                   (-0.88, -0.3), (-0.6, -0.72)])  # fmt: skip
    parts: Parts = [(body, paint.base)]
    for row, (y, half) in enumerate(((-0.3, 0.5), (0.05, 0.4), (0.4, 0.22))):
        for step in (-1.0, 0.0, 1.0):
            parts.append((disc(half * (step + 0.2 * (row % 2)), y, 0.05, 0.07), (0.95, 0.82, 0.45)))
    crown = regular(12).copy() * np.float32(0.5)
    crown[1::2] *= 0.45
    parts.append((crown * at(1.1, 0.5) + at(0, -0.68), GREEN))
    return Drawing(parts, shade="sphere", extra_colors=frozenset({"green"}))


def leaf(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    width = 0.36 + 0.24 * form[0]
    bend = 0.12 * (float(rng.random()) - 0.5)
    y = np.linspace(-0.98, 0.72, 22, dtype=np.float32)
    t = (y + 0.98) / 1.7
    # The sine of pi is a little below zero in float32.
    arch = np.maximum(np.sin(np.pi * t ** (0.75 + 0.5 * form[1])), 0)
    half = width * arch**0.85 + 0.01
    if form[2] > 0.6:
        half = half * (1 + 0.13 * np.where(np.arange(22) % 2, 1.0, -1.0))
    middle = bend * np.sin(np.pi * t)
    body = np.concatenate([np.stack([middle + half, y], 1), np.stack([middle - half, y], 1)[::-1]]).astype(
        np.float32
    )
    vein = paint.darker(0.35) if form[3] < 0.5 else paint.lighter(0.4)
    parts: Parts = [
        (bar(0, 0.68, 0.06, 1.0, 0.07), paint.darker(0.3)),
        (body, paint.base),
        (bar(0, -0.8, 0, 0.7, 0.045), vein),
    ]
    for step in (-0.45, -0.15, 0.15, 0.42):
        reach = width * 0.75 * math.sin(math.pi * (step + 0.98) / 1.7)
        for side in (-1, 1):
            parts.append((bar(0, step, side * reach, step - reach * 0.8, 0.03), vein))
    return Drawing(parts, shade="leafy")


def flower(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    petals = 5 + int(form[0] * 4)
    reach, width = 0.58, 0.40 - 0.022 * (petals - 5)
    parts: Parts = []
    for number in range(petals):
        angle = 2 * math.pi * number / petals
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], np.float32)
        petal = (disc(0, 0, 0.42, width * (0.75 + 0.25 * form[1])) + at(reach, 0)) @ turn
        parts += [(petal * np.float32(1.0), paint.darker(0.22)), (petal * np.float32(0.95), paint.base)]
    parts.append((disc(0, 0, 0.24 + 0.08 * form[2]), paint.accent))
    return Drawing(parts, shade="bevel", extra_colors=frozenset({paint.accent_word}))


def tree(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = [(box(-0.13, 0.3, 0.13, 1.0), WOOD)]
    if form[0] < 0.45:
        for top, bottom, half in ((-1.0, -0.25, 0.42), (-0.6, 0.15, 0.58), (-0.2, 0.6, 0.72)):
            parts.append((polygon((0, top), (half, bottom), (-half, bottom)), paint.base))
    else:
        crown = blob(rng, 0.12, harmonics=7) * at(0.74, 0.68) + at(0, -0.32)
        parts.append((crown, paint.base))
    return Drawing(parts, shade="rough", extra_colors=frozenset({"brown"}))


def mushroom(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    foot = smooth([(-0.2, -0.1), (0.2, -0.1), (0.28, 0.9), (0.2, 1.0), (-0.2, 1.0), (-0.28, 0.9)], 2)
    height = 0.85 + 0.15 * form[0]
    angles = np.linspace(math.pi, 2 * math.pi, 24, dtype=np.float32)
    dome = np.stack([0.92 * np.cos(angles), 0.08 + height * np.sin(angles)], axis=1)
    cap = np.concatenate([dome, polygon((0.8, 0.16), (0, 0.2), (-0.8, 0.16))]).astype(np.float32)
    return Drawing(
        [(foot, (0.93, 0.89, 0.80)), (cap, paint.base)],
        shade="sphere",
        extra_colors=frozenset({"white", "yellow"}),
    )


def egg(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False, dtype=np.float32)
    width = (0.70 + 0.06 * form[0]) * (1 + 0.16 * np.sin(t))
    return Drawing(
        [(np.stack([width * np.cos(t), np.sin(t)], axis=1).astype(np.float32), paint.base)], shade="sphere"
    )


def stone(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    outline = blob(rng, 0.16, harmonics=5) * at(1.0, 0.62 + 0.3 * float(rng.random()))
    return Drawing([(outline, paint.base)], shade="stony")


def fish(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    height = 0.36 + 0.16 * form[0]
    body = smooth(
        [
            (0.92, 0.0),
            (0.55, -height),
            (-0.1, -height),
            (-0.62, -0.08),
            (-0.62, 0.08),
            (-0.1, height),
            (0.55, height),
        ]
    )
    tail = polygon((-0.5, 0.0), (-1.0, -0.42), (-0.84, 0.0), (-1.0, 0.42))
    fin = polygon((0.15, -height * 0.8), (-0.25, -height - 0.3), (-0.3, -height * 0.7))
    return Drawing(
        [
            (tail, paint.darker(0.18)),
            (fin, paint.darker(0.18)),
            (body, paint.base),
            (disc(0.55, -0.1, 0.1), WHITE),
            (disc(0.57, -0.1, 0.055), BLACK),
            (bar(0.28, -0.2, 0.28, 0.2, 0.03), paint.darker(0.3)),
        ],
        shade="bevel",
    )


def butterfly(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = []
    for side in (-1, 1):
        upper = smooth([(0.05, -0.1), (0.5, -0.95), (1.0, -0.85), (0.95, -0.2), (0.5, 0.1)], 3)
        lower = smooth([(0.05, 0.05), (0.6, 0.05), (0.85, 0.5), (0.5, 0.95), (0.15, 0.6)], 3)
        flip = at(side, 1)
        for wing in (upper, lower):
            centre = wing.mean(0)
            parts += [
                (wing * flip, paint.darker(0.65)),
                (((wing - centre) * np.float32(0.8) + centre) * flip, paint.base),
            ]
        parts.append((disc(side * 0.68, -0.55, 0.11), paint.lighter(0.6)))
    parts.append((disc(0, 0, 0.09, 0.62), DARK))
    return Drawing(parts, shade="flat", extra_colors=frozenset({"black"}))


def bird(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    body = smooth([(-0.5, -0.15), (0.1, -0.4), (0.6, -0.1), (0.55, 0.45), (0.05, 0.68), (-0.45, 0.4)])
    tail = polygon((-0.4, 0.0), (-1.0, -0.12), (-0.95, 0.2), (-0.35, 0.3))
    wing = smooth([(-0.45, 0.0), (0.15, -0.1), (0.3, 0.15), (-0.1, 0.4), (-0.6, 0.25)], 2)
    return Drawing(
        [
            (bar(0.05, 0.6, 0.05, 0.95, 0.06), DARK),
            (bar(0.25, 0.55, 0.25, 0.95, 0.06), DARK),
            (tail, paint.darker(0.2)),
            (polygon((0.75, -0.5), (1.02, -0.38), (0.75, -0.28)), (0.95, 0.62, 0.15)),
            (body, paint.base),
            (disc(0.5, -0.4, 0.34), paint.base),
            (wing, paint.darker(0.25)),
            (disc(0.58, -0.46, 0.065), BLACK),
        ],
        shade="lit",
    )


def face(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = [(disc(0, 0, 0.9 + 0.1 * form[0], 1.0), paint.base)]
    spread, level = 0.32 + 0.06 * form[1], -0.22
    for side in (-1, 1):
        if form[2] < 0.5:
            parts.append((disc(side * spread, level, 0.17, 0.14), WHITE))
        parts.append((disc(side * spread, level, 0.09, 0.12), BLACK if form[2] < 0.5 else paint.ink()))
    curve = 0.22 if form[3] < 0.7 else -0.18
    x = np.linspace(-0.42, 0.42, 10, dtype=np.float32)
    arc = 0.45 + curve * (1 - (x / 0.42) ** 2)
    parts.append(
        (
            np.concatenate(
                [np.stack([x, arc], 1), np.stack([x, arc + 0.1 * (1 - (x / 0.46) ** 2)], 1)[::-1]]
            ).astype(np.float32),
            paint.ink(),
        )
    )
    if form[4] < 0.4:
        parts.append((polygon((0, -0.1), (0.1, 0.2), (-0.08, 0.2)), paint.darker(0.25)))
    return Drawing(parts, shade="lit", extra_colors=frozenset({"black"}))


NATURE: dict[str, Artist] = {
    "apple": apple,
    "orange": orange,
    "pear": pear,
    "lemon": lemon,
    "banana": banana,
    "strawberry": strawberry,
    "leaf": leaf,
    "flower": flower,
    "tree": tree,
    "mushroom": mushroom,
    "egg": egg,
    "stone": stone,
    "fish": fish,
    "butterfly": butterfly,
    "bird": bird,
    "face": face,
}
