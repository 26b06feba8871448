"""Names of things that a mixture of data never shows: asked so that an unknown word is a reason to say no.

They are those of ImageNet's thousand categories, as `timm` lists them, less whatever shares a word with a
name of the data. A fifth of them is never trained on; how often a model answers those says what it makes of
words that it never learned.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Literal

HELD_OUT = 5  # one in so many


def foreign_words(known: Iterable[str], part: Literal["train", "held_out"]) -> list[str]:
    """Words of up to three parts, sorted.

    Args:
        known: phrases of the data, synonyms and plurals too.
        part: those that may be trained on, or the others.
    """
    from timm.data.imagenet_info import ImageNetInfo  # takes a second

    stems = {_stem(word) for phrase in known for word in phrase.lower().split()}
    info = ImageNetInfo("imagenet-1k")
    found: set[str] = set()
    for label in info.label_names():  # type: ignore[no-untyped-call]
        # "tench, Tinca tinca": a category counts as known under any of its names.
        names = [name.strip().lower() for name in info.label_name_to_description(label).split(",")]
        if any(_stem(word) in stems for name in names for word in name.replace("-", " ").split()):
            continue
        held_out = zlib.crc32(label.encode()) % HELD_OUT == 0
        if held_out == (part == "held_out"):
            found.update(name for name in names if len(name.split()) <= 3)
    return sorted(found)


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word
