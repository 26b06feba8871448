"""What a model is asked when encoders are compared."""

from __future__ import annotations

import numpy as np
import pytest

from conceptseg.data.scenes import Scene
from conceptseg.data.scenes.scene import SceneObject
from conceptseg.exemplars.few_shot import score_settings


def scene(*families: str) -> Scene:
    """Two squares of each family on black."""
    objects, members = [], {}
    for row, family in enumerate(families):
        for column in range(2):
            mask = np.zeros((64, 64), bool)
            y, x = 4 + 20 * row, 4 + 20 * column
            mask[y : y + 12, x : x + 12] = True
            members.setdefault(family, []).append(len(objects))
            box = (float(x), float(y), float(x + 12), float(y + 12))
            objects.append(SceneObject(family.split()[-1], None, None, None, family, mask, box, 1.0))
    image = np.zeros((64, 64, 3), np.uint8)
    return Scene(image, objects, dict(members), [], members, False, False, 0)


@pytest.mark.parametrize(
    ("other", "asked"),
    [
        ("blue star", 4),  # two that are there, two that are not
        ("star", 2),  # a red star may be among its stars, and the other way round
    ],
)
def test_only_what_is_surely_not_there_counts_as_absent(tiny_segmenter, other: str, asked: int) -> None:
    figures = score_settings(tiny_segmenter, [scene("red star"), scene(other)])
    assert figures["one box"]["prompts"] == asked
    assert figures["three boxes"]["prompts"] == 0  # no family has one to show and one more to find
