"""Phrases that name nothing in an image, for training: without them a tuned model answers any phrase.

Three kinds: other categories of the data, where it annotates them everywhere; near words, a phrase with
another noun ("red blood cell" -> "red blood umbrella"); and plain things that are rare in pictures, some of
which scenes show. None is a phrase that `evaluate` samples for data that names no absent ones: those must
not be learned by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conceptseg.data.absent_phrases import RARE_THINGS

if TYPE_CHECKING:
    from conceptseg.data.annotated_view import AnnotatedView

# Concrete, and seldom in anybody's pictures by the way; the last two lines are words of scenes.
PLAIN_THINGS = (
    "abacus", "acorn", "artichoke", "bagel", "ballet shoe", "beehive", "bowling pin", "boomerang", "cactus",
    "canoe", "castle", "catapult", "cello", "compass", "crown", "dart", "dinosaur", "domino", "dragon",
    "drill", "feather", "ferris wheel", "fire hydrant", "flute", "giraffe", "globe", "hammock", "hedgehog",
    "helicopter", "horseshoe", "iceberg", "jellyfish", "kangaroo", "kayak", "ladder", "lobster", "magnet",
    "maracas", "moose", "padlock", "pancake", "parrot", "peacock", "penguin", "pinwheel",
    "pumpkin", "pyramid", "rocket", "scarecrow", "seahorse", "skateboard", "snail", "snowman", "squirrel",
    "sundial", "telescope", "tractor", "trombone", "typewriter", "unicycle", "volcano", "walnut", "yo-yo",
    "banana", "boat", "butterfly", "clock", "cookie", "fish", "key", "lemon", "mushroom", "strawberry",
    "umbrella", "red umbrella", "yellow lemon", "striped fish", "green key", "dotted mushroom",
)  # fmt: skip


class AbsentWords:
    """Draws absent phrases for images of one dataset."""

    def __init__(self, phrases: Sequence[str]) -> None:
        """Args:
        phrases: all of the data.
        """
        known = {word for phrase in phrases for word in phrase.lower().split()}
        self._things = [thing for thing in PLAIN_THINGS if known.isdisjoint(thing.split())]
        taken = {phrase.lower() for phrase in phrases}
        self._near = [
            near
            for phrase in phrases
            for thing in self._things
            if len(phrase.split()) > 1
            and len(thing.split()) == 1
            and (near := " ".join([*phrase.split()[:-1], thing])).lower() not in taken
        ]

    def draw_for(self, view: AnnotatedView, rng: np.random.Generator) -> str:
        """A phrase that names nothing in a view."""
        return self.draw(view.absent, rng)

    def draw(self, others: Sequence[str], rng: np.random.Generator) -> str:
        """A phrase that names nothing.

        Args:
            others: phrases of the data that are known to be absent from the image.
            rng: decides.
        """
        kind, index = rng.random(), rng.random()
        words = self._things
        if others and kind < 0.5:
            words = sorted(others)
        elif self._near and kind > 0.8:
            words = self._near
        return words[int(index * len(words))]


def told_absent(absent: Sequence[str], phrases: Sequence[str]) -> list[str]:
    """Absent phrases that the data itself tells: its own categories, and those it names; no sampled ones."""
    return [phrase for phrase in absent if phrase in phrases or phrase not in RARE_THINGS]
