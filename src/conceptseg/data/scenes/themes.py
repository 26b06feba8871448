"""Themes: the short list of families that scenes of one theme draw from.

The list holds families that are easily confused (same kind in another colour, same colour on another kind),
so that a phrase or an example box has to be read with care.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from conceptseg.data.scenes.colors import ACHROMATIC, UNCLEAR
from conceptseg.data.scenes.kinds import COMPOSITE_KINDS, KINDS, SHAPE_KINDS, is_reserved, noun_truth
from conceptseg.data.scenes.seeding import between, pick, stable_generator
from conceptseg.data.scenes.textures import PATTERNS


@dataclass(frozen=True)
class Family:
    """Objects that look alike: one kind, one colour word, one pattern."""

    kind: str
    color: str | None
    pattern: str | None

    @property
    def phrase(self) -> str:
        """The look in full; "plain" where the kind also comes with patterns."""
        color = None if self.color == self.kind else self.color  # an orange is not called an orange orange
        pattern = self.pattern or ("plain" if KINDS[self.kind].patterned else None)
        return " ".join(word for word in (pattern, color, self.kind) if word)

    @property
    def reserved(self) -> bool:
        """Whether its colour or its pattern is kept out of training for its kind."""
        return any(word is not None and is_reserved(self.kind, word) for word in (self.color, self.pattern))


@dataclass(frozen=True)
class Theme:
    """What the scenes of one theme have in common."""

    style: str  # "objects", "coins", "fluorescence", "stain", "blood", "brightfield"
    greyscale: bool  # no colour is named in its scenes
    families: tuple[Family, ...]


@lru_cache(maxsize=4096)
def make_theme(number: int, split: str) -> Theme:
    """The theme of this number; train and held_out share it, "unseen" has its own."""
    unseen = split == "unseen"
    rng = stable_generator("theme", "unseen" if unseen else "seen", number)
    draw = float(rng.random())
    if unseen or draw < 0.78:
        greyscale = float(rng.random()) < 0.17
        kinds = (
            SHAPE_KINDS if draw < 0.34 else COMPOSITE_KINDS if draw < 0.66 else SHAPE_KINDS + COMPOSITE_KINDS
        )
        return Theme("objects", greyscale, _confusable(rng, kinds, greyscale, unseen))
    if draw < 0.88:
        return _coins(rng)
    return _microscope(rng)


def _draw_family(
    rng: np.random.Generator, kind: str, color: str | None, greyscale: bool, pattern_share: float
) -> Family:
    known = KINDS[kind]
    if greyscale:
        color = None
    elif known.colors and color not in known.colors:
        color = pick(rng, known.colors)
    pattern = pick(rng, PATTERNS) if known.patterned and float(rng.random()) < pattern_share else None
    if pattern and color in ACHROMATIC:
        # Black stripes on white or white stripes on black? Patterns only go on colours.
        pattern = None
    return Family(kind, color if known.colors else None, pattern)


def _confusable(
    rng: np.random.Generator, kinds: tuple[str, ...], greyscale: bool, unseen: bool
) -> tuple[Family, ...]:
    wanted = 4 + int(rng.random() * 3)
    few_kinds = [pick(rng, kinds) for _ in range(2 + int(rng.random() * 2))]
    few_colors: list[str] = [pick(rng, KINDS[pick(rng, few_kinds)].colors or ("red",)) for _ in range(3)]
    pattern_share = between(rng, 0.0, 0.7) if not greyscale else 0.6
    families: list[Family] = []
    for attempt in range(400):
        if len(families) == wanted:
            break
        # Should the few kinds offer too little (a theme of grey pears has one family), go on with any kind.
        kind = pick(rng, few_kinds) if attempt < 60 and float(rng.random()) < 0.8 else pick(rng, kinds)
        color = pick(rng, few_colors) if float(rng.random()) < 0.75 else None
        family = _draw_family(rng, kind, color, greyscale, pattern_share)
        if unseen:
            # In a scene of new combinations one ordinary family may stand beside them.
            ordinary = sum(not other.reserved for other in families)
            # Grey scenes have patterns only, of which few are reserved.
            if not family.reserved and (ordinary >= 1 or len(families) < 2) and attempt < 390:
                continue
        elif family.reserved:
            continue
        if all(distinguishable(family, other, greyscale) for other in families):
            families.append(family)
    return tuple(families)


def _coins(rng: np.random.Generator) -> Theme:
    greyscale = float(rng.random()) < 0.6
    if greyscale:
        families = [Family("coin", None, None)]
        others = ["key", "leaf", "star", "square", "nut", "heart", "cup", "fish"]
    else:
        families = [Family("coin", color, None) for color in ("golden", "grey", "brown")]
        families = families[int(rng.random() * 2) :][:2]
        others = ["key", "nut", "leaf", "square", "star", "book", "bottle"]
    for _ in range(20):
        if len(families) >= 4:
            break
        family = _draw_family(rng, pick(rng, others), None, greyscale, 0.2)
        if not family.reserved and all(distinguishable(family, other, greyscale) for other in families):
            families.append(family)
    return Theme("coins", greyscale, tuple(families))


def _microscope(rng: np.random.Generator) -> Theme:
    style = pick(rng, ("fluorescence", "fluorescence", "stain", "blood", "blood", "brightfield"))
    kinds: tuple[str, ...]
    if style == "blood":
        kinds = ("red blood cell", "white blood cell", "platelet")
    elif style == "fluorescence":
        kinds = ("nucleus",)
    else:
        kinds = (pick(rng, ("nucleus", "cell")),)
    # Tinted pictures of one dye count as greyscale: nobody names the colour of a nucleus.
    return Theme(style, True, tuple(Family(kind, None, None) for kind in kinds))


def distinguishable(first: Family, second: Family, greyscale: bool) -> bool:
    """Whether two families may stand in one scene: no phrase for the one may half fit the other."""
    if first == second:
        return False
    if first.kind != second.kind:
        if "blood" in first.kind or "blood" in second.kind or "platelet" in (first.kind, second.kind):
            return True
        return noun_truth(first.kind, second.kind, greyscale) is False
    if first.color != second.color:
        return first.color is None or second.color is None or second.color not in UNCLEAR[first.color]
    return first.pattern != second.pattern
