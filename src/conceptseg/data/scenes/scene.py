"""One procedural scene: a picture, its objects with exact masks, and the phrases that are true of it.

`render_scene(seed)` in, `Scene` out; the same arguments give the same scene in any process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.data.scenes.backgrounds import make_background
from conceptseg.data.scenes.effects import apply_effects, choose_effects
from conceptseg.data.scenes.looks import Look, make_look
from conceptseg.data.scenes.phrases import (
    Attributes,
    Census,
    Words,
    absent_phrases,
    present_phrases,
    unclear_colors,
)
from conceptseg.data.scenes.placement import Placed, place_objects
from conceptseg.data.scenes.seeding import stable_generator
from conceptseg.data.scenes.themes import Theme, make_theme
from conceptseg.errors import OptionError

SPLITS = ("train", "held_out", "unseen")
_SIZE_GAP = 1.7  # ratio of sizes across which everyone says small and large


@dataclass
class SceneObject:
    """One object of a scene; what can be seen of it and what it is."""

    kind: str  # "circle", "coin", "leaf", ...
    color: str | None  # colour word, where it has a nameable colour
    pattern: str | None  # "striped", "dotted", "checkered"; None: plain
    size: str | None  # "small", "large"; None: neither, or unclear
    family: str  # the look in full: "striped red circle", "coin"
    mask: NDArray[np.bool_]  # (H, W), visible pixels
    box_xyxy: tuple[float, float, float, float]  # pixels, tight around the visible mask
    visible: float  # share of the object that can be seen
    unclear_colors: frozenset[str] = frozenset()  # colour words that are neither true nor false of it


@dataclass
class Scene:
    """A picture with everything that can be asked of it."""

    image: NDArray[np.uint8]  # (H, W, 3)
    objects: list[SceneObject]
    phrases: dict[str, list[int]]  # every true phrase -> all objects it names
    absent_phrases: list[str]  # true of nothing here; one word away from a true one first
    families: dict[str, list[int]]  # look in full -> its objects: what one example box means
    greyscale: bool  # no colour is named
    sizes_clear: bool  # "small" and "large" mean something
    theme: int


def render_scene(
    seed: int, *, size: int = 256, theme: int | None = None, difficulty: float = 1.0, split: str = "train"
) -> Scene:
    """Make the scene of this seed.

    Args:
        size: height and width in pixels, 64 or more.
        theme: scenes of one theme draw their families from the same short list, so that an example box in one
            has a meaning in another; None takes any theme.
        difficulty: 0 is a few large, plain, separate objects on a plain background; 1 is everything.
        split: "train"; "held_out", the same distribution from other seeds; "unseen", combinations of kind
            with colour or pattern that neither of the others ever shows or names.

    Raises:
        OptionError: an argument is out of its range.
    """
    if split not in SPLITS:
        raise OptionError(f'unknown split "{split}"; choose train, held_out or unseen')
    if not 0.0 <= difficulty <= 1.0:
        raise OptionError(f"difficulty is {difficulty}; give a number from 0 to 1")
    if size < 64:
        raise OptionError(f"size is {size}; scenes are 64 pixels or larger")
    rng = stable_generator("scene", split, seed, size, theme, f"{difficulty:.6f}")
    number = int(rng.integers(2**31)) if theme is None else theme
    chosen = make_theme(number, split)
    looks = _choose_looks(chosen, difficulty, split == "unseen", rng)
    delicate = any(
        look.family.color in ("white", "grey", "black", "brown", "golden", "pink") for look in looks
    )
    patterned = any(look.family.pattern for look in looks)
    effects = choose_effects(chosen.style, chosen.greyscale, difficulty, delicate, patterned, rng)

    frame = make_background(
        chosen.style, size, difficulty, [look.paint.base for look in looks], chosen.greyscale, rng
    )
    placed, owner = place_objects(frame, looks, chosen, difficulty, rng)
    image = apply_effects(frame, effects, rng)
    objects, sizes_clear = _describe(placed, owner, chosen, effects.tones_unclear)

    attributes = [Attributes(it.kind, it.color, it.pattern, it.size, it.unclear_colors) for it in objects]
    census = Census(attributes, greyscale=chosen.greyscale, sizes_clear=sizes_clear)
    phrases = present_phrases(census, rng)
    families: dict[str, list[int]] = {}
    for index, it in enumerate(objects):
        families.setdefault(it.family, []).append(index)
    spare = [Words(f.kind, f.color, f.pattern) for f in chosen.families if f.phrase not in families]
    absent = absent_phrases(
        census, rng, unseen=split == "unseen", theme=spare, count=6 + int(rng.random() * 5)
    )
    return Scene(image, objects, phrases, absent, families, chosen.greyscale, sizes_clear, number)


def _choose_looks(theme: Theme, difficulty: float, unseen: bool, rng: np.random.Generator) -> list[Look]:
    most = 1 + int(round(1 + 2 * difficulty))
    count = min(1 + int(rng.random() * most), len(theme.families))
    if theme.style == "coins" and float(rng.random()) < 0.6:
        count = 1
    elif theme.style == "blood":
        count = len(theme.families)
    order = list(range(len(theme.families)))
    # The first family is the theme's own: coins in a coin theme, a new combination among the unseen.
    head = 1 if unseen or theme.style == "coins" or theme.style == "blood" else 0
    tail = [order[head:][i] for i in rng.permutation(len(order) - head).tolist()]
    families = [theme.families[index] for index in (order[:head] + tail)[:count]]
    colors = frozenset(family.color for family in families if family.color)
    return [make_look(family, theme, difficulty, colors, rng) for family in families]


def _describe(
    placed: list[Placed], owner: NDArray[np.int16], theme: Theme, tones_unclear: bool
) -> tuple[list[SceneObject], bool]:
    border = _size_border([it.sprite.extent for it in placed])
    objects = []
    for index, it in enumerate(placed):
        mask = np.zeros(owner.shape, np.bool_)
        mask[it.window] = owner[it.window] == index
        part, top, left = mask[it.window], it.window[0].start, it.window[1].start
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        box = (
            float(left + columns[0]),
            float(top + rows[0]),
            float(left + columns[-1] + 1),
            float(top + rows[-1] + 1),
        )
        visible = it.visible_pixels / it.sprite.full_area
        size = None
        # What is mostly hidden may look smaller than it is.
        if border is not None and visible > 0.6:
            size = "large" if it.sprite.extent > border else "small"
        family = it.look.family
        color = None if theme.greyscale else family.color
        unclear = unclear_colors(family.kind, color, it.other_colors, tones_unclear)
        objects.append(
            SceneObject(family.kind, color, family.pattern, size, family.phrase, mask, box, visible, unclear)
        )
    return objects, border is not None


def _size_border(extents: list[float]) -> float | None:
    """The size that parts small objects from large ones; None where the scene has no two clear sizes."""
    ordered = sorted(extents)
    gaps = [index for index in range(1, len(ordered)) if ordered[index] > _SIZE_GAP * ordered[index - 1]]
    if len(gaps) != 1:
        return None
    small, large = ordered[: gaps[0]], ordered[gaps[0] :]
    if small[-1] > 1.6 * small[0] or large[-1] > 1.6 * large[0]:
        return None
    return math.sqrt(small[-1] * large[0])
