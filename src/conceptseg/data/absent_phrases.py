"""Phrases that name nothing in an image, for data that says only what is there.

Where a dataset annotates its categories everywhere, a category without objects is absent. An image that shows
them all, as every image of a dataset of one category does, is asked for things that are rare in any picture:
without a single absent phrase nobody could tell whether a model answers a phrase or marks whatever it sees.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence

import numpy as np

# Concrete, easily named, and seldom photographed by the way.
RARE_THINGS = (
    "accordion",
    "anchor",
    "armadillo",
    "bagpipes",
    "chandelier",
    "chess board",
    "flamingo",
    "gondola",
    "harp",
    "hot air balloon",
    "igloo",
    "lighthouse",
    "octopus",
    "parachute",
    "pineapple",
    "saxophone",
    "sewing machine",
    "submarine",
    "totem pole",
    "windmill",
)


def sample_absent(
    image_name: str, present: Collection[str], categories: Sequence[str], count: int
) -> tuple[str, ...]:
    """Up to `count` phrases that name nothing in an image; the same ones whenever the image is read.

    Args:
        image_name: decides the choice, so that neither order nor number of images changes it.
        present: phrases that name something there.
        categories: all phrases of the data, each annotated wherever it is true.
    """
    others = [phrase for phrase in categories if phrase not in present]
    if not others:
        words = {word for phrase in categories for word in phrase.lower().split()}
        others = [thing for thing in RARE_THINGS if words.isdisjoint(thing.split())]
    rng = np.random.default_rng(zlib.crc32(image_name.encode()))
    return tuple(sorted(others[i] for i in rng.permutation(len(others))[:count]))
