"""An object that several phrases found is kept under the best one."""

from __future__ import annotations

import numpy as np

from conceptseg.labelling.answer import one_phrase_per_object
from conceptseg.result import Result


def found(phrase: str, *objects: tuple[float, int, int]) -> Result:
    """Objects as (score, first and one past the last column) of an image of 4 x 20 pixels."""
    masks = np.zeros((len(objects), 4, 20), dtype=bool)
    for mask, (_, left, right) in zip(masks, objects, strict=True):
        mask[:, left:right] = True
    scores = np.array([score for score, _, _ in objects], dtype=np.float32)
    boxes = np.array([[left, 0, right, 4] for _, left, right in objects], dtype=np.float32).reshape(-1, 4)
    return Result(
        phrase,
        (4, 20),
        masks,
        boxes=boxes,
        scores=scores,
        class_scores=scores,
        presence=0.9,
        presence_logit=2.2,
    )


def test_the_better_phrase_keeps_the_object_and_others_keep_theirs() -> None:
    cat = found("cat", (0.9, 0, 6), (0.4, 10, 16))
    dog = found("dog", (0.8, 10, 15), (0.7, 1, 7), (0.6, 17, 20))
    kept_cat, kept_dog = one_phrase_per_object([cat, dog])
    assert kept_cat.boxes[:, 0].tolist() == [0]
    assert kept_dog.boxes[:, 0].tolist() == [10, 17]  # that from 1 to 7 is the cat, IoU 5/7
    assert kept_dog.phrase == "dog" and kept_dog.presence == 0.9


def test_masks_that_share_half_or_less_are_two_objects() -> None:
    half = one_phrase_per_object([found("a", (0.9, 0, 4)), found("b", (0.8, 0, 8))])
    assert [len(result) for result in half] == [1, 1]


def test_repeats_within_a_phrase_are_not_its_business() -> None:
    twice = found("a", (0.9, 0, 4), (0.8, 0, 4))
    assert [len(result) for result in one_phrase_per_object([twice, found("b")])] == [2, 0]


def test_of_equal_scores_the_earlier_phrase_wins() -> None:
    kept = one_phrase_per_object([found("a", (0.5, 0, 4)), found("b", (0.5, 0, 4))])
    assert [len(result) for result in kept] == [1, 0]
