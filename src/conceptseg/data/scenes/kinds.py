"""The catalogue: every kind of object, the nouns it answers to, the colours and patterns it may have."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache

from conceptseg.data.scenes.cells import CELLS
from conceptseg.data.scenes.colors import COLORS
from conceptseg.data.scenes.composites import COMPOSITES
from conceptseg.data.scenes.shapes import SHAPES
from conceptseg.data.scenes.textures import PATTERNS


@dataclass(frozen=True)
class Kind:
    """What is known about a kind before any of it is drawn."""

    name: str
    colors: tuple[str, ...] = ()  # colour words it may be painted in; none: its colour is never named
    patterned: bool = False  # may be striped, dotted or checkered, and is then called plain when it is not
    turn: float = 180.0  # degrees it may be turned by either way
    nouns: tuple[str, ...] = ()  # what it surely is, besides its name
    near_nouns: frozenset[str] = field(
        default_factory=frozenset
    )  # what some would call it: never asked with it
    grey_near: frozenset[str] = field(default_factory=frozenset)  # the same, once colour is gone
    near_patterns: frozenset[str] = field(default_factory=frozenset)  # patterns its own details look like
    near_colors: frozenset[str] = field(
        default_factory=frozenset
    )  # colours some would call it when it has no colour word
    smallest: float = 18.0  # pixels across at 256, below which it cannot be recognised


_ROUND = frozenset({"circle", "disc", "ellipse", "oval"})
_CLOTH = tuple(COLORS)
_METAL = ("golden", "grey")
_CELL_COLORS = frozenset({"purple", "pink", "blue", "red", "white", "grey", "black"})
_ALL_PATTERNS = frozenset(PATTERNS)


def _near(*words: str) -> frozenset[str]:
    return frozenset(words)


def _shape(
    name: str,
    turn: float = 180.0,
    nouns: tuple[str, ...] = (),
    near: tuple[str, ...] = (),
    smallest: float = 14,
) -> Kind:
    return Kind(name, COLORS, True, turn, nouns, frozenset(near), smallest=smallest)


_KINDS = (
    _shape("circle", 180, ("disc",), ("ellipse", "oval", "ring", "ball", "button", "coin")),
    _shape("ellipse", 180, ("oval",), ("circle", "disc", "capsule", "egg")),
    _shape("square", 22, (), ("rectangle", "diamond", "book")),
    _shape("rectangle", 180, (), ("square", "book", "capsule")),
    _shape("triangle", 180, (), ("arrow",)),
    _shape("star", 180, (), ("flower",), 18),
    _shape("ring", 180, (), ("circle", "disc", "oval", "ellipse"), 18),
    _shape("cross", 18, ("plus",), (), 16),
    _shape("heart", 25, (), ("leaf", "strawberry", "apple"), 18),
    _shape("diamond", 12, (), ("square", "rectangle")),
    _shape("pentagon", 180, (), ("hexagon", "house", "circle", "disc", "nut"), 22),
    _shape("hexagon", 180, (), ("pentagon", "circle", "disc", "nut"), 22),
    _shape("crescent", 180, ("moon",), ("banana", "circle"), 18),
    _shape("arrow", 180, (), ("triangle",), 22),
    _shape("capsule", 180, ("pill",), ("ellipse", "oval", "rectangle"), 16),
    _shape("drop", 25, (), ("pear", "leaf", "strawberry", "circle"), 18),
    Kind("coin", ("golden", "grey", "brown"),
         near_nouns=_ROUND | _near("button", "cookie", "ring", "clock", "egg", "stone"),
         grey_near=_near("ball", "orange", "lemon", "nucleus", "cell"), near_patterns=_ALL_PATTERNS,
         near_colors=_near("grey", "golden", "brown", "white", "black"), smallest=20),
    Kind("button", _CLOTH, near_nouns=_ROUND | _near("coin", "ring", "clock", "nut", "face"),
         near_patterns=_near("dotted")),
    Kind("ball", _CLOTH, True, near_nouns=_ROUND | _near("orange", "egg", "apple", "cherry"),
         grey_near=_near("coin", "lemon", "stone"), smallest=16),
    Kind("apple", ("red", "green", "yellow"), turn=35, nouns=("fruit",),
         near_nouns=_ROUND | _near("ball", "heart", "orange"),
         grey_near=_near("lemon", "pear", "strawberry", "stone", "egg"), smallest=22),
    Kind("orange", ("orange",), turn=180, nouns=("fruit",), near_nouns=_ROUND | _near("ball", "apple"),
         grey_near=_near("lemon", "coin", "egg", "stone", "cookie"), smallest=20),
    Kind("pear", ("green", "yellow"), turn=60, nouns=("fruit",),
         near_nouns=_near("drop", "oval", "ellipse", "bottle"),
         grey_near=_near("apple", "lemon"), smallest=22),
    Kind("lemon", ("yellow",), turn=180, nouns=("fruit",),
         near_nouns=_near("oval", "ellipse", "egg", "circle", "disc"),
         grey_near=_near("stone", "orange", "apple", "fish", "pear"), smallest=20),
    Kind("banana", ("yellow",), turn=180, nouns=("fruit",), near_nouns=_near("crescent", "moon"),
         smallest=26),
    Kind("strawberry", ("red",), turn=50, nouns=("fruit",), near_nouns=_near("heart", "triangle"),
         grey_near=_near("apple", "leaf"),
         near_patterns=_near("dotted"), smallest=24),
    Kind("leaf", ("green", "yellow", "brown", "red", "orange"),
         near_nouns=_near("oval", "ellipse", "diamond", "drop"),
         near_patterns=_near("striped"), smallest=24),
    Kind("cup", _CLOTH, True, 14, ("mug",), near_nouns=_near("bottle"), smallest=26),
    Kind("bottle", ("green", "blue", "brown", "red", "purple", "black"), turn=25,
         near_nouns=_near("cup", "mug", "capsule", "pill"), smallest=30),
    Kind("house", ("white", "yellow", "red", "blue", "green", "brown", "grey", "pink", "orange"),
         turn=5, nouns=("building",),
         near_nouns=_near("pentagon", "arrow", "square"), near_patterns=_near("checkered"), smallest=28),
    Kind("car", tuple(word for word in COLORS if word != "black"), turn=8,
         near_nouns=_near("boat"), smallest=30),
    Kind("fish", _CLOTH, True, 30, near_nouns=_near("oval", "ellipse", "bird"), smallest=26),
    Kind("key", _METAL, near_nouns=_near("ring", "arrow"),
         near_colors=_near("grey", "golden", "white", "black", "brown"), smallest=30),
    Kind("face", ("yellow",), turn=22, near_nouns=_ROUND | _near("ball", "button"),
         near_patterns=_near("dotted"), smallest=26),
    Kind("flower", ("red", "yellow", "blue", "purple", "pink", "white", "orange"),
         near_nouns=_near("star"), near_patterns=_near("dotted"), smallest=24),
    Kind("tree", ("green", "orange"), turn=6,
         near_nouns=_near("triangle", "arrow", "mushroom", "leaf", "circle"), smallest=26),
    Kind("mushroom", ("red", "brown"), turn=18, near_nouns=_near("umbrella", "tree"), smallest=24),
    Kind("egg", ("white", "brown"), near_nouns=_ROUND | _near("stone", "ball", "lemon"),
         grey_near=_near("orange", "apple", "coin"), smallest=18),
    Kind("stone", ("grey", "brown"), near_nouns=_ROUND | _near("egg", "cookie", "coin", "potato"),
         grey_near=_near("nucleus", "cell", "lemon"), smallest=18),
    Kind("cookie", ("brown",), near_nouns=_ROUND | _near("coin", "button", "stone"),
         grey_near=_near("orange", "cell", "ball"),
         near_patterns=_near("dotted"), smallest=24),
    Kind("clock", tuple(word for word in COLORS if word != "white"), turn=8,
         near_nouns=_ROUND | _near("coin", "button", "ring"), smallest=30),
    Kind("book", ("red", "green", "blue", "brown", "purple", "black", "orange"), turn=25,
         near_nouns=_near("rectangle", "square"),
         near_patterns=_near("striped"), smallest=26),
    Kind("umbrella", ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black"),
         turn=25, near_nouns=_near("mushroom"),
         near_patterns=_near("striped"), smallest=28),
    Kind("boat", ("red", "orange", "green", "blue", "purple", "brown", "black"), turn=8,
         near_nouns=_near("triangle", "car"), smallest=28),
    Kind("butterfly", ("red", "orange", "yellow", "blue", "purple", "pink", "green"),
         near_nouns=_near("flower"), near_patterns=_near("dotted"), smallest=26),
    Kind("bird", ("red", "orange", "yellow", "green", "blue", "brown", "white", "grey", "black", "pink"),
         turn=12, near_nouns=_near("fish"), smallest=28),
    Kind("nut", _METAL, near_nouns=_ROUND | _near("ring", "hexagon", "button", "pentagon"),
         near_colors=_near("grey", "golden", "white", "black", "brown"), smallest=20),
    Kind("nucleus", nouns=("cell",), near_nouns=_ROUND | _near("stone", "egg", "platelet", "blood cell"),
         near_patterns=_ALL_PATTERNS,
         near_colors=_CELL_COLORS, grey_near=_near("coin", "ball"), smallest=10),
    Kind("cell", near_nouns=_ROUND | _near("nucleus", "egg", "blood cell", "white blood cell", "ring",
         "cookie", "button"), near_patterns=_ALL_PATTERNS,
         near_colors=_CELL_COLORS | {"green", "yellow", "orange", "brown"},
         grey_near=_near("coin"), smallest=18),
    Kind("red blood cell", nouns=("blood cell", "cell"),
         near_nouns=_ROUND | _near("ring", "button"), near_patterns=_ALL_PATTERNS,
         near_colors=_CELL_COLORS | {"orange", "brown"}, smallest=20),
    Kind("white blood cell", nouns=("blood cell", "cell"),
         near_nouns=_ROUND | _near("nucleus"), near_patterns=_ALL_PATTERNS,
         near_colors=_CELL_COLORS, smallest=34),
    Kind("platelet", near_nouns=_ROUND | _near("cell", "nucleus", "blood cell"),
         near_patterns=_ALL_PATTERNS, near_colors=_CELL_COLORS, smallest=9),
)  # fmt: skip

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
SHAPE_KINDS = tuple(SHAPES)
COMPOSITE_KINDS = tuple(COMPOSITES)
CELL_KINDS = tuple(CELLS)
assert set(KINDS) == {*SHAPES, *COMPOSITES, *CELLS}
assert all(set(kind.colors) <= {*COLORS, "golden"} for kind in _KINDS)

GENERAL_NOUNS = ("thing", "object")  # true of everything, only asked together with an attribute
# Every noun a phrase may use -> the kinds it is true of.
NOUNS: dict[str, tuple[str, ...]] = {}
for _kind in _KINDS:
    for _noun in (_kind.name, *_kind.nouns):
        NOUNS[_noun] = (*NOUNS.get(_noun, ()), _kind.name)


def is_reserved(kind: str, word: str) -> bool:
    """Whether this kind with this colour or pattern word is kept out of training.

    The rule: `crc32("kind/word") % 10 == 1`, for kinds that come in four colours or more (every pattern pair
    of such a kind counts). It never changes, so a model trained today can be tested on what it never saw.
    """
    return len(KINDS[kind].colors) >= 4 and zlib.crc32(f"{kind}/{word}".encode()) % 10 == 1


@cache
def _alike(first: str, second: str, greyscale: bool) -> bool:
    """Whether some would call the one kind by a name of the other; the same in both directions."""
    for one, other in ((first, second), (second, first)):
        near = KINDS[one].near_nouns | KINDS[one].grey_near if greyscale else KINDS[one].near_nouns
        # Only names that belong to the other kind alone count: a platelet may be called a blood cell, which
        # makes "blood cell" unclear, not "red blood cell".
        own = [noun for noun in KINDS[other].nouns if NOUNS[noun] == (other,)]
        if near & {other, *own}:
            return True
    return False


@cache
def noun_truth(noun: str, kind: str, greyscale: bool) -> bool | None:
    """Whether the noun names this kind: yes, no, or None when people would disagree."""
    if noun in GENERAL_NOUNS or kind in NOUNS[noun]:
        return True
    near = KINDS[kind].near_nouns | KINDS[kind].grey_near if greyscale else KINDS[kind].near_nouns
    if noun in near:
        return None
    return None if any(_alike(other, kind, greyscale) for other in NOUNS[noun]) else False
