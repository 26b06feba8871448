"""Things made of parts, by name.

Every function takes the eight numbers its family shares (`form`), the generator of this one object (wear,
small differences) and the family's paint, and returns a `Drawing`. Parts painted in exactly `paint.base`
carry the family's pattern.
"""

from __future__ import annotations

from conceptseg.data.scenes.made import MADE
from conceptseg.data.scenes.nature import NATURE
from conceptseg.data.scenes.paint import Artist

# Themes draw from this list by position, so its order is part of what a seed means.
COMPOSITE_NAMES = (
    "coin",
    "button",
    "ball",
    "apple",
    "orange",
    "pear",
    "lemon",
    "banana",
    "strawberry",
    "leaf",
    "cup",
    "bottle",
    "house",
    "car",
    "fish",
    "key",
    "face",
    "flower",
    "tree",
    "mushroom",
    "egg",
    "stone",
    "cookie",
    "clock",
    "book",
    "umbrella",
    "boat",
    "butterfly",
    "bird",
    "nut",
)
COMPOSITES: dict[str, Artist] = {name: (MADE | NATURE)[name] for name in COMPOSITE_NAMES}
