"""Where objects go and how large they are, before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from conceptseg.data.scenes.kinds import KINDS
from conceptseg.data.scenes.seeding import between, pick
from conceptseg.data.scenes.themes import Family, Theme


@dataclass(frozen=True)
class Spot:
    """A wish: an object of this family, this large, here if a place is given."""

    family: int  # index into the scene's families
    radius: float  # pixels
    center: tuple[float, float] | None  # x, y in pixels; None: anywhere


@dataclass(frozen=True)
class Layout:
    """All wishes of a scene and how closely they may be packed."""

    spots: list[Spot]
    hidden: float  # how much of an object another may cover, 0..0.6
    cut: float  # how much of an object the frame may cut off, 0..0.6


def plan_layout(
    theme: Theme, families: list[Family], size: int, difficulty: float, rng: np.random.Generator
) -> Layout:
    """Choose an arrangement: scattered, rows, packed, two sizes or one large object."""
    scale = size / 256
    many = theme.style != "objects"
    draw = float(rng.random())
    hidden = 0.0 if float(rng.random()) > 0.75 * difficulty else between(rng, 0.05, 0.5)
    cut = 0.0 if float(rng.random()) > 0.8 * difficulty else between(rng, 0.1, 0.6)
    if many:
        if theme.style == "coins" and draw < 0.65 or theme.style != "blood" and draw < 0.08:
            return Layout(_rows(families, size, scale, difficulty, True, rng), 0.08, 0.5)
        return Layout(_packed(theme, families, size, scale, difficulty, rng), between(rng, 0.05, 0.45), 0.65)
    if draw < 0.18 * difficulty:
        return Layout(_rows(families, size, scale, difficulty, False, rng), 0.1, 0.5)
    if draw < 0.30 * difficulty:
        return Layout(_packed(theme, families, size, scale, difficulty, rng), max(hidden, 0.1), 0.6)
    if draw < 0.55:
        return Layout(_two_sizes(families, scale, difficulty, rng), hidden, cut)
    if draw < 0.62:
        return Layout(_one_large(families, scale, rng), hidden, max(cut, 0.1))
    return Layout(_scattered(families, scale, difficulty, rng), hidden, cut)


def _smallest(family: Family) -> float:
    """Half the least size of a family at 256; a pattern has to be seen."""
    return max(KINDS[family.kind].smallest, 34.0 if family.pattern else 0.0) / 2


def _scattered(
    families: list[Family], scale: float, difficulty: float, rng: np.random.Generator
) -> list[Spot]:
    count = 1 + int(rng.random() * (3 + 11 * difficulty))
    middle = between(rng, 40 - 22 * difficulty, 58 - 14 * difficulty)
    spread = between(rng, 1.1, 1.3 + 0.9 * difficulty)
    typical = [middle * spread ** between(rng, -0.7, 0.7) for _ in families]
    spots = []
    for number in range(max(count, len(families))):
        family = number if number < len(families) else int(rng.random() * len(families))
        radius = typical[family] * spread ** between(rng, -0.6, 0.6)
        spots.append(Spot(family, max(radius, _smallest(families[family])) * scale, None))
    return spots


def _two_sizes(
    families: list[Family], scale: float, difficulty: float, rng: np.random.Generator
) -> list[Spot]:
    small = max(between(rng, 9, 15 if difficulty > 0.3 else 20), *(_smallest(family) for family in families))
    large = small * between(rng, 2.2, 3.0)
    spots = []
    for number in range(2 + len(families) + int(rng.random() * (1 + 6 * difficulty))):
        family = number % len(families) if number < len(families) else int(rng.random() * len(families))
        radius = (large if float(rng.random()) < 0.4 or number == 0 else small) * between(rng, 0.92, 1.08)
        spots.append(Spot(family, radius * scale, None))
    # Large ones first: small ones still find a place then.
    return sorted(spots, key=lambda spot: -spot.radius)


def _one_large(families: list[Family], scale: float, rng: np.random.Generator) -> list[Spot]:
    large = Spot(
        0, between(rng, 55, 95) * scale, (between(rng, 90, 166) * scale, between(rng, 90, 166) * scale)
    )
    others = [
        Spot(number, max(between(rng, 14, 26), _smallest(family)) * scale, None)
        for number, family in enumerate(families)
    ]
    return [large, *others[1:]]


def _rows(
    families: list[Family], size: int, scale: float, difficulty: float, loose: bool, rng: np.random.Generator
) -> list[Spot]:
    needed = max(_smallest(family) for family in families)
    columns = 2 + int(rng.random() * (1 + 4.5 * difficulty))
    rows = max(2, min(6, columns - 1 + int(rng.random() * 3)))
    columns = max(2, min(columns, int(120 / needed)))
    rows = max(2, min(rows, int(120 / needed)))
    while rows * columns > 30:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    pitch_x, pitch_y = size / (columns + between(rng, 0.0, 0.5)), size / (rows + between(rng, 0.0, 0.5))
    left, top = (size - pitch_x * (columns - 1)) / 2, (size - pitch_y * (rows - 1)) / 2
    pitch = min(pitch_x, pitch_y)
    radius = max(pitch * between(rng, 0.30, 0.46), needed * scale)
    vary = between(rng, 1.0, 1.45 if loose else 1.15)
    jitter = pitch * between(rng, 0.0, 0.14)
    mixed = float(rng.random())
    weights = between(rng, 0.5, 0.9)
    tilt = between(rng, -0.06, 0.06)
    spots = []
    for row in range(rows):
        for column in range(columns):
            if float(rng.random()) < 0.06 * difficulty:
                continue
            if mixed < 0.25:
                family = row % len(families)
            else:
                family = 0 if float(rng.random()) < weights else int(rng.random() * len(families))
            x = left + pitch_x * column + between(rng, -jitter, jitter)
            y = top + pitch_y * row + between(rng, -jitter, jitter) + tilt * (x - size / 2)
            grown = radius * vary ** between(rng, -1, 1)
            spots.append(Spot(family, max(grown, _smallest(families[family]) * scale), (x, y)))
    return spots


def _packed(
    theme: Theme, families: list[Family], size: int, scale: float, difficulty: float, rng: np.random.Generator
) -> list[Spot]:
    needed = max(_smallest(family) for family in families)
    if theme.style == "blood":
        radius = between(rng, 14, 30)
    elif theme.style in ("fluorescence", "stain", "brightfield"):
        radius = between(rng, 6, 24)
    else:
        radius = between(rng, 11, 22)
    if theme.style == "objects" or theme.style == "coins":
        radius = max(radius, needed)
    room = 0.45 * (256 / (2 * radius)) ** 2
    count = int(min(30, max(3, room * between(rng, 0.3, 1.1))) * (0.4 + 0.6 * difficulty))
    clumped = float(rng.random()) < 0.4
    centres = [(between(rng, 0.1, 0.9) * size, between(rng, 0.1, 0.9) * size) for _ in range(3)]
    main = pick(rng, (0.6, 0.85, 1.0))
    spots = []
    for number in range(count):
        family = 0 if float(rng.random()) < main else int(rng.random() * len(families))
        grown = radius * between(rng, 0.82, 1.2)
        kind = families[family].kind
        if kind == "white blood cell":
            grown *= between(rng, 1.5, 2.0)
        elif kind == "platelet":
            grown = max(radius * between(rng, 0.2, 0.33), 4.5)
        grown = max(grown, KINDS[kind].smallest / 2) * scale
        center = None
        if clumped and number % 3:
            angle, reach = between(rng, 0, 2 * math.pi), grown * between(rng, 0.5, 4.5)
            around = pick(rng, centres)
            center = (around[0] + reach * math.cos(angle), around[1] + reach * math.sin(angle))
        spots.append(Spot(family, grown, center))
    return spots
