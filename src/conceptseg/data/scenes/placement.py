"""Putting objects into the frame, one on top of the other, so that enough of each can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from conceptseg.data.scenes.drawing import Drawing
from conceptseg.data.scenes.kinds import KINDS
from conceptseg.data.scenes.layout import Spot, plan_layout
from conceptseg.data.scenes.looks import Look
from conceptseg.data.scenes.seeding import between
from conceptseg.data.scenes.shading import Light, Sprite, render_sprite
from conceptseg.data.scenes.textures import FloatArray
from conceptseg.data.scenes.themes import Theme

_MIN_VISIBLE = 0.30  # an object of which less would be left is not covered any further
_MIN_PIXELS = 24  # at 256


@dataclass
class Placed:
    """An object in the frame, and how much of it can be seen so far."""

    look: Look
    sprite: Sprite
    window: tuple[slice, slice]  # rows and columns of the frame it may touch
    visible_pixels: int
    other_colors: frozenset[str]


def place_objects(
    frame: FloatArray, looks: list[Look], theme: Theme, difficulty: float, rng: np.random.Generator
) -> tuple[list[Placed], NDArray[np.int16]]:
    """Draw the objects into the frame, back to front; `owner` says whose each pixel is, -1 for none."""
    size = frame.shape[1]
    angle = between(rng, 0, 2 * math.pi)
    light = Light(math.cos(angle), math.sin(angle), between(rng, 0.2, 1.0) * difficulty)
    shadow = (
        between(rng, 0.1, 0.6)
        if theme.style in ("objects", "coins") and float(rng.random()) < 0.5 * difficulty
        else 0.0
    )
    halo = between(rng, -0.5, 0.25) if theme.style == "brightfield" and float(rng.random()) < 0.7 else 0.0
    layout = plan_layout(theme, [look.family for look in looks], size, difficulty, rng)
    owner = np.full((size, size), -1, np.int16)
    placed: list[Placed] = []
    upright = float(rng.random()) < 0.5
    # Should nothing find a place, one object in the middle always does.
    last_resort = Spot(0, 0.15 * size, (size / 2, size / 2))
    for spot in [*layout.spots, last_resort]:
        if spot is last_resort and placed:
            break
        look = looks[spot.family]
        drawing = look.draw(rng)
        turn = KINDS[look.family.kind].turn
        if upright and turn == 180.0:
            turn = 12.0
        sprite = render_sprite(
            drawing,
            look.surface,
            light,
            rng,
            radius=spot.radius,
            turn=between(rng, -turn, turn),
            flip=float(rng.random()) < 0.5,
            stretch=1.0 + 0.06 * difficulty * between(rng, -1, 1),
            tone=1.0 + look.tone_spread * between(rng, -1, 1),
        )
        where = _find_place(sprite, spot, owner, placed, layout.hidden, layout.cut, rng)
        if where is None:
            continue
        left, top = where
        if shadow:
            _cast_shadow(
                frame,
                sprite,
                left - light.x * 0.16 * spot.radius,
                top - light.y * 0.16 * spot.radius,
                shadow,
                spot.radius,
            )
        elif halo:
            _cast_shadow(frame, sprite, left, top, halo, spot.radius * 1.6)
        _paste(frame, owner, look, drawing, sprite, left, top, placed)
    return placed, owner


def _window(
    shape: tuple[int, ...], left: int, top: int, size: int
) -> tuple[slice, slice, slice, slice] | None:
    """Rows and columns of the frame, and of a sprite (height, width), where they meet."""
    height, width = shape
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, size), min(left + width, size)
    if y1 <= y0 or x1 <= x0:
        return None
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _find_place(
    sprite: Sprite,
    spot: Spot,
    owner: NDArray[np.int16],
    placed: list[Placed],
    hidden: float,
    cut: float,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Left and top of the sprite where it covers nothing too much and can be seen itself, or None."""
    size = owner.shape[0]
    half = sprite.alpha.shape[0] / 2
    hard = sprite.alpha >= 0.5
    least = _MIN_PIXELS * (size / 256) ** 2
    if sprite.full_area < least:
        return None
    for attempt in range(10 if spot.center is None else 2):
        if spot.center is not None:
            x, y = spot.center
            if attempt:
                x, y = x + between(rng, -0.7, 0.7) * spot.radius, y + between(rng, -0.7, 0.7) * spot.radius
        else:
            # With no cutting allowed the whole object stays inside, else its centre may come near the border.
            margin = min(spot.radius * (1.02 if cut == 0 else 1 - cut), size / 2 - 1)
            x, y = between(rng, margin, size - margin), between(rng, margin, size - margin)
        left, top = int(x - half), int(y - half)
        window = _window(sprite.alpha.shape, left, top, size)
        if window is None:
            continue
        rows, columns, own_rows, own_columns = window
        own = hard[own_rows, own_columns]
        inside = int(np.count_nonzero(own))
        if inside < max(least, (1 - cut - 0.05) * sprite.full_area, 0.35 * sprite.full_area):
            continue
        below = owner[rows, columns][own]
        covered = np.bincount(below + 1, minlength=len(placed) + 1)[1:]
        fits = True
        for index in np.flatnonzero(covered).tolist():
            other = placed[index]
            left_over = other.visible_pixels - int(covered[index])
            if (
                left_over < max(least, max(_MIN_VISIBLE, 1 - hidden - 0.02) * other.sprite.full_area)
                or hidden == 0
            ):
                fits = False
                break
        if fits:
            return left, top
    return None


def _paste(
    frame: FloatArray,
    owner: NDArray[np.int16],
    look: Look,
    drawing: Drawing,
    sprite: Sprite,
    left: int,
    top: int,
    placed: list[Placed],
) -> None:
    """Put the sprite on top of what is there and count what can still be seen of everything."""
    window = _window(sprite.alpha.shape, left, top, frame.shape[1])
    assert window is not None
    rows, columns, own_rows, own_columns = window
    alpha = sprite.alpha[own_rows, own_columns]
    target = frame[:, rows, columns]
    change = sprite.rgb[:, own_rows, own_columns] - target
    change *= alpha
    target += change
    own = alpha >= 0.5
    below = owner[rows, columns]
    covered = np.bincount(below[own] + 1)
    for other, count in enumerate(covered[1:].tolist()):
        placed[other].visible_pixels -= count
    below[own] = len(placed)
    placed.append(
        Placed(look, sprite, (rows, columns), int(covered.sum()), look.other_colors | drawing.extra_colors)
    )


def _cast_shadow(
    frame: FloatArray, sprite: Sprite, left: float, top: float, strength: float, radius: float
) -> None:
    """Darken (or, for a negative strength, brighten) the ground around an object."""
    pad = int(0.25 * radius) + 2
    height, width = sprite.alpha.shape
    cover = Image.new("L", (width + 2 * pad, height + 2 * pad))
    cover.paste(sprite.cover, (pad, pad))
    cover = cover.filter(ImageFilter.BoxBlur(0.12 * radius + 1))
    window = _window((height + 2 * pad, width + 2 * pad), int(left) - pad, int(top) - pad, frame.shape[1])
    if window is not None:
        rows, columns, own_rows, own_columns = window
        soft = np.asarray(cover)[own_rows, own_columns] * np.float32(-strength / 255)
        soft += 1
        frame[:, rows, columns] *= soft
