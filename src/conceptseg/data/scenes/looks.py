"""How the families of one scene are painted: colours, patterns, materials, all fixed per scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conceptseg.data.scenes.cells import CELLS
from conceptseg.data.scenes.colors import Rgb, distance, luminance, mix, sample_color
from conceptseg.data.scenes.composites import COMPOSITES
from conceptseg.data.scenes.drawing import Drawing
from conceptseg.data.scenes.paint import BLACK, WHITE, Paint
from conceptseg.data.scenes.seeding import between, pick
from conceptseg.data.scenes.shading import Surface
from conceptseg.data.scenes.shapes import SHAPES, Form
from conceptseg.data.scenes.themes import Family, Theme

_ROOFS = ("red", "brown", "grey", "black", "blue")
_CENTRES = ("yellow", "orange", "brown", "white")
_SHAPE_SHADES = ("flat", "flat", "lit", "bevel", "bevel", "stony", "rough")
# Second colours of a pattern that leave the first one nameable.
_OWN_SHADES = ("green", "blue", "purple", "red")


@dataclass(frozen=True)
class Look:
    """One family in one scene."""

    family: Family
    form: Form
    paint: Paint
    surface: Surface
    shade: str | None  # shading of plain shapes; composites bring their own
    other_colors: frozenset[str]  # words for the second colour of the pattern
    tone_spread: float  # how much objects differ in brightness

    def draw(self, rng: np.random.Generator) -> Drawing:
        """One object of the family in unit coordinates."""
        kind = self.family.kind
        if kind in SHAPES:
            outline, *holes = SHAPES[kind](self.form)
            return Drawing(
                [(outline, self.paint.base), *((hole, None) for hole in holes)], self.shade or "flat"
            )
        return (COMPOSITES.get(kind) or CELLS[kind])(self.form, rng, self.paint)


def make_look(
    family: Family, theme: Theme, difficulty: float, scene_colors: frozenset[str], rng: np.random.Generator
) -> Look:
    """Choose colours and materials for a family.

    Args:
        scene_colors: colour words of all families of the scene; parts in another colour keep away from them,
            or "white house" would be unclear beside a red house with a white roof.
    """
    form: Form = tuple(rng.random(8).tolist())
    base, accent, accent_word = _colors(family, theme, scene_colors, rng)
    second, second_words = _second_color(family, base, scene_colors, rng)
    materials = float(rng.random()) < 0.65 * difficulty
    microscope = theme.style in ("fluorescence", "stain", "blood", "brightfield")
    surface = Surface(
        base=base,
        second=second,
        pattern=family.pattern,
        repeats=between(rng, 3.0, 6.0) if family.pattern != "dotted" else between(rng, 3.0, 5.0),
        share=between(rng, 0.35, 0.5) if family.pattern == "striped" else between(rng, 0.28, 0.42),
        pattern_turn=pick(rng, (0.0, 45.0, 90.0, between(rng, 0, 180))),
        grain=between(rng, 0.02, 0.13) if materials and not microscope else 0.0,
        grain_name=pick(rng, ("fine", "rough", "cloud", "white", "bumps3")),
        outline=_outline(microscope, theme, difficulty, rng),
        gloss=between(rng, 0.1, 0.5) if float(rng.random()) < 0.5 * difficulty and not microscope else 0.0,
        relief=between(rng, 0.2, 0.85) if family.kind == "coin" else between(rng, 0.2, 1.0),
    )
    shade = pick(rng, _SHAPE_SHADES) if float(rng.random()) < difficulty else "flat"
    spread = 0.05 + 0.10 * difficulty * float(rng.random())
    if theme.style == "fluorescence":
        spread = between(rng, 0.1, 0.4)
    elif theme.style == "coins" and theme.greyscale:
        spread = between(rng, 0.05, 0.22)
    elif family.color in ("white", "grey", "black", "brown", "orange"):
        spread = 0.04
    return Look(family, form, Paint(base, accent, accent_word), surface, shade, second_words, spread)


def _outline(microscope: bool, theme: Theme, difficulty: float, rng: np.random.Generator) -> float:
    if theme.style == "fluorescence":
        return 0.0
    if microscope:
        return between(rng, 0.0, 0.45)
    # Drawn always a little: without it, two overlapping objects of one flat colour are one object to any eye.
    return between(rng, 0.25, 0.6) if float(rng.random()) < 0.7 else between(rng, -0.35, 0.2) * difficulty


def _colors(
    family: Family, theme: Theme, scene_colors: frozenset[str], rng: np.random.Generator
) -> tuple[Rgb, Rgb, str]:
    if theme.style == "fluorescence":
        level = between(rng, 0.45, 0.95)
        base = (level, level, level)
        return base, mix(base, WHITE if float(rng.random()) < 0.5 else BLACK, between(rng, 0.3, 0.6)), "white"
    if theme.style == "stain":
        base = (between(rng, 0.30, 0.55), between(rng, 0.15, 0.38), between(rng, 0.50, 0.72))
        if family.kind == "cell":
            base = mix(base, (0.95, 0.75, 0.85), between(rng, 0.45, 0.75))
        return base, (between(rng, 0.2, 0.4), between(rng, 0.1, 0.25), between(rng, 0.4, 0.6)), "purple"
    if theme.style == "blood":
        if family.kind == "red blood cell":
            red = between(rng, 0.68, 0.86)
            base = (red, red - between(rng, 0.16, 0.32), red - between(rng, 0.08, 0.26))
        elif family.kind == "platelet":
            base = (between(rng, 0.5, 0.65), between(rng, 0.38, 0.5), between(rng, 0.62, 0.78))
        else:
            base = (between(rng, 0.68, 0.84), between(rng, 0.58, 0.74), between(rng, 0.78, 0.9))
        return base, (between(rng, 0.28, 0.42), between(rng, 0.15, 0.28), between(rng, 0.58, 0.75)), "purple"
    if theme.style == "brightfield":
        level = between(rng, 0.2, 0.8)
        base = (level, level, level)
        return base, mix(base, WHITE if level < 0.5 else BLACK, between(rng, 0.2, 0.6)), "grey"
    if family.color is not None:
        base = sample_color(rng, family.color)
    elif family.kind == "coin" or theme.greyscale and float(rng.random()) < 0.5:
        level = between(rng, 0.35, 0.8)
        base = (level, level * between(rng, 0.95, 1.0), level * between(rng, 0.85, 1.0))
    else:
        base = sample_color(
            rng, pick(rng, ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "grey"))
        )
    words = [
        word
        for word in (_ROOFS if family.kind == "house" else _CENTRES)
        if word != family.color and word not in scene_colors
    ]
    accent_word = pick(rng, words or ["black"])
    accent = sample_color(rng, accent_word)
    if distance(accent, base) < 0.2:
        dark = luminance(base) > 0.4
        if ("black" if dark else "white") in scene_colors:
            return base, mix(base, BLACK if dark else WHITE, 0.6), family.color or "grey"
        accent_word, accent = ("black", BLACK) if dark else ("white", WHITE)
    return base, accent, accent_word


def _second_color(
    family: Family, base: Rgb, scene_colors: frozenset[str], rng: np.random.Generator
) -> tuple[Rgb, frozenset[str]]:
    if family.pattern is None:
        return base, frozenset()
    light = luminance(base)
    if family.color in _OWN_SHADES and 0.25 < light and float(rng.random()) < 0.25 and family.color != "red":
        return mix(base, WHITE, 0.62), frozenset()
    if family.color in _OWN_SHADES and float(rng.random()) < 0.2 and light > 0.3:
        return mix(base, BLACK, 0.55), frozenset({"black"})
    wish_dark = light > 0.6 or (light > 0.33 and float(rng.random()) < 0.4)
    if 0.25 < light < 0.75 and ("black" if wish_dark else "white") in scene_colors:
        wish_dark = not wish_dark
    if wish_dark:
        return (0.08, 0.08, 0.09), frozenset({"black"})
    return (0.95, 0.95, 0.94), frozenset({"white"})
