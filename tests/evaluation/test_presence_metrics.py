from __future__ import annotations

import math

import pytest

from conceptseg.errors import DataError
from conceptseg.evaluation.presence_metrics import expected_calibration_error, presence_auroc


def test_auroc_counts_the_couples_in_right_order() -> None:
    # present 0.9, 0.4; absent 0.5, 0.1: right are (0.9, 0.5), (0.9, 0.1), (0.4, 0.1): 3 of 4
    assert presence_auroc([0.9, 0.5, 0.4, 0.1], [True, False, True, False]) == pytest.approx(0.75)


def test_ties_count_half_in_auroc() -> None:
    # present 0.5, 0.8; absent 0.5: (0.5, 0.5) half, (0.8, 0.5) whole
    assert presence_auroc([0.5, 0.8, 0.5], [True, True, False]) == pytest.approx(0.75)


def test_auroc_of_perfect_and_reversed_order() -> None:
    labels = [True] * 30 + [False] * 20
    scores = [0.9 - 0.001 * i for i in range(30)] + [0.1 + 0.001 * i for i in range(20)]
    assert presence_auroc(scores, labels) == 1
    assert presence_auroc([-score for score in scores], labels) == 0


def test_auroc_of_one_kind_only_is_undefined() -> None:
    assert math.isnan(presence_auroc([0.2, 0.3], [True, True]))


def test_calibration_error_of_two_bins() -> None:
    # bins 0..0.5 and 0.5..1. Low: 0.1, 0.3, mean 0.2, present 1 of 2: gap 0.3.
    # High: 0.6, 0.8, mean 0.7, present 2 of 2: gap 0.3. Weighted by 2/4 each: 0.3.
    error = expected_calibration_error([0.1, 0.3, 0.6, 0.8], [False, True, True, True], bins=2)
    assert error == pytest.approx(0.3)


def test_a_score_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    assert expected_calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)


def test_certainty_on_the_edges_of_the_range_falls_into_the_outer_bins() -> None:
    assert expected_calibration_error([1.0, 0.0], [True, False], bins=10) == 0
    assert expected_calibration_error([1.0, 0.0], [False, True], bins=10) == 1


def test_wrong_presence_scores_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(2,\) presence scores do not fit \(1,\) labels"):
        presence_auroc([0.1, 0.2], [True])
    with pytest.raises(DataError, match="1 of 2 presence scores are NaN"):
        presence_auroc([0.1, float("nan")], [True, False])
    with pytest.raises(DataError, match="ranges over 0.1..4"):
        expected_calibration_error([0.1, 4.0], [True, False])
