"""Gains of one model over another, on counts written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.study.gains import cgf1_gain, gain_shown


def counts(found: int) -> list[int]:
    """Of two things that are there so many are found; what is not there is not answered."""
    boxes = np.array([[0.0, 0, 8, 8], [10, 0, 18, 8]])
    evaluator = ConceptEvaluator("boxes")
    evaluator.add(ConceptPair(np.ones(found), predicted_boxes=boxes[:found], target_boxes=boxes))
    evaluator.add(ConceptPair(np.ones(0), predicted_boxes=boxes[:0], target_boxes=boxes[:0]))
    return evaluator.counts().tolist()


def test_models_are_compared_on_the_same_pictures_and_seeds() -> None:
    after = {0: [counts(2)] * 6, 1: [counts(2)] * 6, 7: [counts(0)] * 6}
    before = {0: [counts(1)] * 6, 1: [counts(1)] * 6}
    gain = cgf1_gain(after, before)
    assert gain is not None and (gain.examples, gain.scenes, gain.seeds) == (12, 6, 2)
    assert gain.value == pytest.approx(100 / 3, abs=0.1)  # F1 of one in two is 2/3
    assert gain.low == pytest.approx(gain.high)  # every picture says the same
    mixed = {0: [counts(2)] * 3 + [counts(0)] * 3, 1: [counts(2)] * 6}
    unsure = cgf1_gain(mixed, before)
    assert unsure is not None and unsure.low < unsure.value < unsure.high
    assert gain_shown(gain) == "+33.3 [+33.3, +33.3]"


def test_models_without_a_common_seed_are_not_compared() -> None:
    assert cgf1_gain({0: [counts(1)]}, {1: [counts(1)]}) is None and gain_shown(None) == "-"
