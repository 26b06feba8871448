"""From a drawing to pixels: turn, size, rasterise with smooth edges, then pattern, light, relief and wear.

All work is on the object's own small window, never on the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from conceptseg.data.scenes.colors import Rgb, luminance
from conceptseg.data.scenes.drawing import Drawing
from conceptseg.data.scenes.seeding import between
from conceptseg.data.scenes.textures import FloatArray, noise, pattern_mask


@dataclass(frozen=True)
class Light:
    """The light of a scene: where it comes from and how strongly it models forms."""

    x: float  # towards the light, unit length with y; y down
    y: float
    strength: float  # 0: everything is flat


@dataclass(frozen=True)
class Surface:
    """How a family is painted in one scene."""

    base: Rgb
    second: Rgb  # second colour of the pattern
    pattern: str | None
    repeats: float  # stripes (dots, checks) across the object
    share: float  # of the second colour
    pattern_turn: float  # degrees
    grain: float  # strength of unnamed texture
    grain_name: str  # which noise
    outline: float  # darkening of the edge, 0..1; negative brightens
    gloss: float  # highlight, 0..1
    relief: float  # depth of embossing


@dataclass
class Sprite:
    """One object ready to be put into a frame."""

    rgb: FloatArray  # (3, h, w), 0..1; planes apart are several times faster in numpy
    alpha: FloatArray  # (h, w), 0..1
    cover: Image.Image  # alpha as an 8 bit picture
    full_area: int  # pixels with alpha of at least half, before anything hides them
    extent: float  # pixels across: square root of the box around them


@dataclass
class _Canvas:
    """What the shades work with; all arrays (h, w)."""

    u: FloatArray  # object coordinates, 1 at the radius
    v: FloatArray
    cover: Image.Image  # alpha as a picture, for blurs
    light_u: float  # direction of the light in pixels
    light_v: float
    strength: float
    surface: Surface
    rng: np.random.Generator
    radius: float


def render_sprite(
    drawing: Drawing,
    surface: Surface,
    light: Light,
    rng: np.random.Generator,
    *,
    radius: float,
    turn: float,
    flip: bool,
    stretch: float,
    tone: float,
) -> Sprite:
    """Paint one object.

    Args:
        radius: pixels from the centre to the farthest point.
        turn: degrees clockwise.
        flip: mirror left and right before turning.
        stretch: height over width, near 1.
        tone: brightness of this object against its family's, near 1.
    """
    half = int(math.ceil(radius * 1.06 + 2.0 + 2.0 * drawing.softness * radius))
    side = 2 * half
    scale = 3 if side <= 44 else 2
    angle = math.radians(turn)
    sign = -1.0 if flip else 1.0
    matrix = np.array(
        [
            [sign * math.cos(angle), sign * math.sin(angle)],
            [-stretch * math.sin(angle), stretch * math.cos(angle)],
        ],
        np.float32,
    )
    to_canvas = matrix * np.float32(radius * scale)
    middle = (
        np.float32(half * scale)
        + rng.random(2).astype(np.float32) * np.float32(scale)
        - np.float32(scale / 2)
    )

    base = tuple(int(round(channel * 255)) for channel in surface.base)
    # Mode RGBX keeps the fourth channel as it is; Pillow would convert RGBA back and forth to average it.
    canvas = Image.new("RGBX", (side * scale, side * scale), (*base, 0))
    draw = ImageDraw.Draw(canvas)
    for points, fill in drawing.parts:
        corners = (points @ to_canvas + middle).ravel().tolist()
        draw.polygon(corners, (*base, 0) if fill is None else (*(int(round(c * 255)) for c in fill), 255))
    small = canvas.reduce(scale)
    pixels = np.array(np.asarray(small).transpose(2, 0, 1), dtype=np.float32, order="C")
    pixels *= np.float32(1 / 255)
    rgb, alpha = pixels[:3], pixels[3]
    cover = small.getchannel(3)
    if drawing.softness > 0:
        cover = cover.filter(ImageFilter.BoxBlur(drawing.softness * radius))
        alpha = _floats(cover)

    steps = np.arange(side, dtype=np.float32) - np.float32(half - 0.5)
    # The matrix turned back: object coordinates of every pixel.
    by_x, by_y = steps / np.float32(radius), steps / np.float32(radius * stretch)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u = (by_x * (np.float32(sign) * cos))[None, :] + (steps / np.float32(radius) * (np.float32(sign) * sin))[
        :, None
    ]
    v = (by_x * (-sin / np.float32(stretch)))[None, :] + (by_y * cos)[:, None]

    if surface.pattern is not None:
        _paint_pattern(rgb, u * radius, v * radius, surface, radius, rng)
    shaded = _Canvas(u, v, cover, light.x, light.y, light.strength, surface, rng, radius)
    factor = SHADES[drawing.shade](shaded) * np.float32(tone)
    if surface.grain > 0:
        factor = factor + noise(rng, surface.grain_name, side, side) * np.float32(surface.grain)
    if surface.outline != 0.0:
        edge = np.clip(2.0 - 2.0 * _floats(cover.filter(ImageFilter.BoxBlur(1.2 + 0.04 * radius))), 0, 1)
        if luminance(surface.base) < 0.18:
            # Black cannot get darker: its edge catches the light.
            rgb += np.float32(0.3 * abs(surface.outline)) * edge
        else:
            factor -= factor * (np.float32(surface.outline) * edge)
    rgb *= factor
    if surface.gloss > 0 and drawing.shade in GLOSSY:
        spot_x, spot_y = 0.42 * light.x * radius, 0.42 * light.y * radius
        reach = np.float32(1.0 / (0.22 * radius) ** 2)
        spot = np.exp(-((steps[None, :] - spot_x) ** 2 + (steps[:, None] - spot_y) ** 2) * reach)
        rgb += np.float32(surface.gloss) * spot
    hard = alpha >= 0.5
    rows, columns = np.flatnonzero(hard.any(1)), np.flatnonzero(hard.any(0))
    extent = 0.0
    if len(rows):
        extent = math.sqrt(float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)))
    return Sprite(rgb, alpha, cover, int(np.count_nonzero(hard)), extent)


def _paint_pattern(
    rgb: FloatArray, x: FloatArray, y: FloatArray, surface: Surface, radius: float, rng: np.random.Generator
) -> None:
    assert surface.pattern is not None
    # Below five pixels a stripe is a grey blur that nobody would call striped.
    period = max(2.0 * radius / surface.repeats, 5.0)
    offset_x, offset_y = between(rng, 0, period), between(rng, 0, period)
    cos, sin = (
        np.float32(math.cos(math.radians(surface.pattern_turn))),
        np.float32(math.sin(math.radians(surface.pattern_turn))),
    )
    across, down = x * cos + y * sin + np.float32(offset_x), y * cos - x * sin + np.float32(offset_y)
    second = pattern_mask(surface.pattern, across, down, period, surface.share)
    base = np.array(surface.base, np.float32)[:, None, None]
    own = np.clip(
        1.6 - 8.0 * np.abs(rgb - base).sum(0), 0, 1
    )  # 1 where the part is painted in the base colour
    rgb += (second * own) * (np.array(surface.second, np.float32)[:, None, None] - base)


def _floats(image: Image.Image) -> FloatArray:
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def _across(canvas: _Canvas, height: FloatArray) -> FloatArray:
    """Slope of a height field against the light: positive faces it."""
    slope = np.zeros_like(height)
    slope[:, 1:-1] = np.float32(canvas.light_u) * (height[:, :-2] - height[:, 2:])
    slope[1:-1, :] += np.float32(canvas.light_v) * (height[:-2, :] - height[2:, :])
    return slope


def _towards_light(canvas: _Canvas) -> FloatArray:
    """-1 on the side away from the light, 1 on the side facing it (frame coordinates)."""
    half = canvas.u.shape[0] / 2
    steps = (np.arange(canvas.u.shape[0], dtype=np.float32) - np.float32(half)) / np.float32(canvas.radius)
    return steps[None, :] * np.float32(canvas.light_u) + steps[:, None] * np.float32(canvas.light_v)


def _flat(canvas: _Canvas) -> FloatArray:
    return 1 + np.float32(0.12 * canvas.strength) * _towards_light(canvas)


def _lit(canvas: _Canvas) -> FloatArray:
    return 1 + np.float32(0.28 * canvas.strength) * _towards_light(canvas)


def _sphere(canvas: _Canvas) -> FloatArray:
    distance = np.minimum(canvas.u**2 + canvas.v**2, 1.0)
    facing = np.sqrt(1.0 - 0.97 * distance) * np.float32(0.75) + np.float32(0.62) * _towards_light(canvas)
    return 1 + np.float32(canvas.strength) * (np.clip(facing, 0.05, 1.25) - 0.72)


def _dimpled(canvas: _Canvas) -> FloatArray:
    side = canvas.u.shape[0]
    return _sphere(canvas) + noise(canvas.rng, "bumps3", side, side) * np.float32(0.05)


def _cylinder(canvas: _Canvas) -> FloatArray:
    side = np.float32(1.0 if canvas.light_u >= 0 else -1.0)
    across = (canvas.u + 0.15) * side
    return 1 + np.float32(canvas.strength) * (0.30 * across - 0.35 * across**2)


def _bevel(canvas: _Canvas) -> FloatArray:
    height = _floats(canvas.cover.filter(ImageFilter.BoxBlur(1.0 + 0.09 * canvas.radius)))
    return _flat(canvas) + np.float32(canvas.strength * 0.10 * canvas.radius**0.75) * _across(canvas, height)


def _metal(canvas: _Canvas) -> FloatArray:
    bands = np.cos(3.2 * (canvas.u * np.float32(0.8) + canvas.v) + np.float32(between(canvas.rng, 0, 6)))
    return _bevel(canvas) + np.float32(0.16 * canvas.strength) * bands


def _relief(canvas: _Canvas) -> FloatArray:
    """A struck coin: rim, a raised figure with detail, worn unevenly, lit from one side."""
    rng, side, radius = canvas.rng, canvas.u.shape[0], canvas.radius
    distance = np.sqrt(canvas.u**2 + canvas.v**2)
    detail = noise(rng, "bumps3" if radius < 15 else "bumps6" if radius < 34 else "bumps12", side, side)
    coarse = noise(rng, "bumps6" if radius < 13 else "bumps12", side, side)
    # The figure: a bust or an animal is a lump somewhat off the centre, longer one way.
    lean, turn = between(rng, 0.45, 1.0), between(rng, 0, math.pi)
    across = (canvas.u - np.float32(between(rng, -0.15, 0.15))) * np.float32(
        math.cos(turn)
    ) + canvas.v * np.float32(math.sin(turn))
    along = canvas.v * np.float32(math.cos(turn)) - canvas.u * np.float32(math.sin(turn))
    spread = np.sqrt((across / np.float32(lean)) ** 2 + along**2)
    figure = np.clip((0.62 - spread + 0.10 * coarse) * np.float32(radius * 0.25), 0, 1)
    height = figure * (1 + 0.5 * detail) + np.float32(between(rng, 0.1, 0.45)) * np.tanh(1.5 * coarse)
    rim = between(rng, 0.84, 0.93)
    height = height + 0.9 * np.clip(
        (0.09 - np.abs(distance - np.float32(rim))) * np.float32(radius * 0.3), 0, 1
    )
    # Letters along the rim.
    ring = np.clip(1 - np.abs(distance - np.float32(rim - 0.17)) * 12, 0, 1)
    height = height + ring * np.maximum(detail, 0) * np.float32(between(rng, 0, 0.8))
    depth = canvas.surface.relief * between(rng, 0.6, 1.2)
    tarnish = noise(rng, "cloud", side, side)
    return (
        1
        + np.float32(depth) * _across(canvas, height)
        + np.float32(0.07) * figure
        + np.float32(0.10) * tarnish
        + np.float32(0.10 * canvas.strength) * _towards_light(canvas)
    )


def _leafy(canvas: _Canvas) -> FloatArray:
    side = canvas.u.shape[0]
    fold = np.where(canvas.u > 0, np.float32(0.10), np.float32(-0.10)) * np.float32(canvas.strength)
    return _flat(canvas) + fold + noise(canvas.rng, "cloud", side, side) * np.float32(0.07)


def _rough(canvas: _Canvas) -> FloatArray:
    side = canvas.u.shape[0]
    return _lit(canvas) + noise(
        canvas.rng, "bumps6" if canvas.radius > 24 else "bumps3", side, side
    ) * np.float32(0.14)


def _stony(canvas: _Canvas) -> FloatArray:
    side = canvas.u.shape[0]
    mottled = noise(canvas.rng, "rough", side, side) * np.float32(0.10)
    return np.float32(0.35) + np.float32(0.65) * _sphere(canvas) + mottled


def _chromatin(canvas: _Canvas) -> FloatArray:
    """A stained nucleus: clumps inside, somewhat brighter or darker towards the middle."""
    side = canvas.u.shape[0]
    clumps = noise(canvas.rng, "bumps3" if canvas.radius < 14 else "bumps6", side, side)
    dome = 1.0 - np.minimum(canvas.u**2 + canvas.v**2, 1.0)
    centre = between(canvas.rng, -0.15, 0.35)
    return 0.92 + np.float32(centre) * dome + np.float32(canvas.surface.relief * 0.22) * clumps


def _speckled(canvas: _Canvas) -> FloatArray:
    side = canvas.u.shape[0]
    return (
        1
        + noise(canvas.rng, "fine", side, side) * np.float32(0.08)
        + noise(canvas.rng, "bumps6", side, side) * np.float32(0.05)
    )


def _biconcave(canvas: _Canvas) -> FloatArray:
    """A red blood cell: pale in the middle, darker towards the rim."""
    shift = between(canvas.rng, -0.15, 0.15)
    distance = (canvas.u - np.float32(shift)) ** 2 + (canvas.v + np.float32(shift)) ** 2
    pale = np.exp(-((distance / np.float32(between(canvas.rng, 0.12, 0.32))) ** 2))
    return 0.94 + np.float32(between(canvas.rng, 0.12, 0.42) * min(1.0, 0.3 + canvas.surface.relief)) * pale


SHADES: dict[str, Callable[[_Canvas], FloatArray]] = {
    "flat": _flat,
    "lit": _lit,
    "sphere": _sphere,
    "dimpled": _dimpled,
    "cylinder": _cylinder,
    "bevel": _bevel,
    "metal": _metal,
    "relief": _relief,
    "leafy": _leafy,
    "rough": _rough,
    "stony": _stony,
    "chromatin": _chromatin,
    "speckled": _speckled,
    "biconcave": _biconcave,
}
GLOSSY = frozenset({"sphere", "dimpled", "cylinder", "metal", "bevel"})
