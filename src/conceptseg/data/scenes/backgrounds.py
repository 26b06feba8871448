"""What lies behind the objects: paper, gradients, noise, wood, cloth, grass, clutter out of focus."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from conceptseg.data.scenes.colors import COLORS, Rgb, distance, luminance, mix, sample_color
from conceptseg.data.scenes.outlines import blob
from conceptseg.data.scenes.seeding import between, pick
from conceptseg.data.scenes.textures import FloatArray, enlarge, noise, smooth_field

_SIMPLE = ("plain", "plain", "gradient")
_ALL = (
    "plain",
    "gradient",
    "gradient",
    "cloud",
    "cloud",
    "fine",
    "wood",
    "cloth",
    "grass",
    "gravel",
    "clutter",
    "clutter",
    "tiles",
)


def make_background(
    style: str, size: int, difficulty: float, objects: list[Rgb], greyscale: bool, rng: np.random.Generator
) -> FloatArray:
    """A frame (3, size, size) in 0..1.

    Args:
        style: of the theme.
        objects: colours that have to stand out against it.
        greyscale: they have to by brightness alone.
    """
    if style in ("fluorescence", "stain", "blood", "brightfield"):
        return _microscope(style, size, difficulty, objects, rng)
    if style == "coins":
        name = pick(rng, ("gradient", "gradient", "fine", "cloud", "cloth", "wood"))
    else:
        name = pick(rng, _ALL if float(rng.random()) < difficulty else _SIMPLE)
    first, second = _two_colors(name, style, difficulty, objects, greyscale, rng)
    if name == "clutter":
        frame = _clutter(first, size, rng)
    else:
        frame = _between(first, second, _field(name, size, rng))
    if float(rng.random()) < 0.5 * difficulty:
        frame += noise(rng, pick(rng, ("white", "fine", "rough")), size, size) * np.float32(
            between(rng, 0.01, 0.06)
        )
    return frame


def _between(first: Rgb, second: Rgb, field: FloatArray) -> FloatArray:
    """The first colour where the field is 0, the second where it is 1; (3, size, size)."""
    start, end = np.array(first, np.float32)[:, None, None], np.array(second, np.float32)[:, None, None]
    return start + field * (end - start)


def _two_colors(
    name: str, style: str, difficulty: float, objects: list[Rgb], greyscale: bool, rng: np.random.Generator
) -> tuple[Rgb, Rgb]:
    """The two ends of the background's range, the best of a few draws at keeping away from the objects."""
    needed = 0.34 - 0.16 * difficulty
    best, best_gap = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), -1.0
    for _ in range(12):
        if style == "coins":
            level = between(rng, 0.03, 0.5) if float(rng.random()) < 0.75 else between(rng, 0.5, 0.95)
            first: Rgb = (level, level * between(rng, 0.9, 1.05), level * between(rng, 0.8, 1.1))
        elif name == "grass" and float(rng.random()) < 0.7:
            first = (between(rng, 0.15, 0.4), between(rng, 0.35, 0.6), between(rng, 0.08, 0.25))
        elif name == "wood":
            first = sample_color(rng, "brown")
            first = mix(first, (0.95, 0.85, 0.7), between(rng, 0.0, 0.8))
        else:
            first = sample_color(rng, pick(rng, COLORS))
            # Backgrounds of real photographs are mostly pale, dark or dull.
            level = between(rng, 0, 1)
            first = mix(first, (level, level, level), between(rng, 0.0, 0.85))
        reach = between(rng, 0.1, 0.45) if name != "plain" else 0.0
        second = mix(
            first, pick(rng, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), sample_color(rng, pick(rng, COLORS)))), reach
        )
        if greyscale:
            # Only the brightness will be left; the same scale as `distance`, where a grey step counts twice.
            gap = min(
                (
                    1.2 * abs(luminance(end) - luminance(color))
                    for end in (first, second)
                    for color in objects
                ),
                default=1.0,
            )
        else:
            gap = min(
                (min(distance(first, color), distance(second, color)) for color in objects), default=1.0
            )
        if gap > best_gap:
            best, best_gap = (first, second), gap
        if gap > needed:
            break
    return best


def _field(name: str, size: int, rng: np.random.Generator) -> FloatArray:
    """Where between its two colours the background is, (size, size), about 0..1."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    if name in ("plain", "clutter"):
        return np.zeros((size, size), np.float32)
    if name == "gradient":
        if float(rng.random()) < 0.5:
            angle = between(rng, 0, 2 * math.pi)
            field = 0.5 + 0.5 * (
                axis[None, :] * np.float32(math.cos(angle)) + axis[:, None] * np.float32(math.sin(angle))
            )
            return np.asarray(field, np.float32)
        x, y = between(rng, -0.8, 0.8), between(rng, -0.8, 0.8)
        return np.clip(
            0.6 * ((axis[None, :] - np.float32(x)) ** 2 + (axis[:, None] - np.float32(y)) ** 2), 0, 1
        )
    if name == "cloth":
        period = between(rng, 3, 12) * size / 256
        pixels = np.arange(size, dtype=np.float32) * np.float32(2 * math.pi / period)
        weave = 0.5 + 0.16 * (np.sin(pixels)[None, :] + np.sin(pixels)[:, None])
        return weave + noise(rng, "fine", size, size) * np.float32(0.12)
    if name == "tiles":
        period = between(rng, 30, 90) * size / 256
        pixels = (np.arange(size, dtype=np.float32) + np.float32(between(rng, 0, period))) % np.float32(
            period
        )
        line = (pixels < max(1.5, 0.05 * period)).astype(np.float32)
        return np.maximum(line[None, :], line[:, None]) * np.float32(0.9) + noise(
            rng, "cloud", size, size
        ) * np.float32(0.08)
    if name == "wood":
        wood = noise(rng, "wood", size, size)
        return 0.5 + np.float32(0.25) * (wood if float(rng.random()) < 0.5 else wood.T)
    if name == "grass":
        blades = noise(rng, "fibre", size, size)
        return 0.5 + np.float32(0.2) * (blades + noise(rng, "rough", size, size))
    if name == "gravel":
        return 0.5 + np.float32(0.22) * (
            noise(rng, pick(rng, ("bumps3", "bumps6")), size, size) + noise(rng, "cloud", size, size)
        )
    if name == "fine":
        return 0.5 + np.float32(0.22) * noise(rng, pick(rng, ("fine", "rough")), size, size)
    soft = noise(rng, pick(rng, ("cloud", "soft")), size, size)
    return 0.5 + np.float32(0.3) * soft


def _clutter(color: Rgb, size: int, rng: np.random.Generator) -> FloatArray:
    """Dull blots far out of focus: too soft and too grey to be called things."""
    small = max(size // 4, 8)
    canvas = Image.new("RGB", (small, small), _bytes(color))
    draw = ImageDraw.Draw(canvas)
    for _ in range(4 + int(rng.random() * 14)):
        tone = between(rng, 0, 1)
        other = mix(mix(color, sample_color(rng, pick(rng, COLORS)), 0.25), (tone, tone, tone), 0.35)
        outline = blob(rng, 0.35) * np.float32(between(rng, 0.05, 0.3) * small) + (
            rng.random(2) * small
        ).astype(np.float32)
        draw.polygon(outline.ravel().tolist(), _bytes(other))
    canvas = canvas.filter(ImageFilter.GaussianBlur(small / 256 * between(rng, 14, 26)))
    canvas = canvas.resize((size, size), Image.Resampling.BILINEAR)
    frame = np.array(np.asarray(canvas).transpose(2, 0, 1), dtype=np.float32, order="C")
    frame *= np.float32(1 / 255)
    return frame


def _bytes(color: Rgb) -> tuple[int, int, int]:
    return (int(color[0] * 255), int(color[1] * 255), int(color[2] * 255))


def _microscope(
    style: str, size: int, difficulty: float, objects: list[Rgb], rng: np.random.Generator
) -> FloatArray:
    field = smooth_field(rng, size, 5)
    if style == "fluorescence":
        level = between(rng, 0.0, 0.10)
        haze = np.clip(
            level * (1 + 0.7 * field) + noise(rng, "cloud", size, size) * np.float32(0.25 * level), 0, 1
        )
        return np.repeat(haze[None], 3, axis=0)
    if style == "brightfield":
        own = luminance(objects[0])
        apart = between(rng, 0.14, 0.4)
        level = own + apart if own < 0.3 or (own < 0.7 and float(rng.random()) < 0.5) else own - apart
        grey = (
            level
            + 0.06 * field
            + noise(rng, pick(rng, ("rough", "cloud")), size, size) * np.float32(between(rng, 0.005, 0.03))
        )
        return np.repeat(grey[None], 3, axis=0)
    if style == "blood":
        color = np.array(
            [between(rng, 0.82, 0.93), between(rng, 0.82, 0.92), between(rng, 0.80, 0.92)], np.float32
        )
        return color[:, None, None] + (0.03 * field + noise(rng, "rough", size, size) * np.float32(0.008))
    pale = (between(rng, 0.80, 0.95), between(rng, 0.66, 0.86), between(rng, 0.80, 0.94))
    pink = (between(rng, 0.70, 0.92), between(rng, 0.42, 0.66), between(rng, 0.62, 0.84))
    tissue = enlarge(rng.random((6, 6)).astype(np.float32), size, size) + noise(
        rng, "rough", size, size
    ) * np.float32(0.25)
    strands = noise(rng, "fibre", size, size)
    share = np.clip(0.9 * tissue - 0.1 + 0.15 * strands, 0, 1) * np.float32(0.3 + 0.7 * difficulty)
    return _between(pale, pink, share)
