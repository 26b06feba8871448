"""The rule of the verdict, line by line."""

from __future__ import annotations

import dataclasses

import pytest

from conceptseg.errors import ConfigError
from conceptseg.presence.features import FeatureDrift
from conceptseg.presence.pair_outcomes import PresenceFigures
from conceptseg.presence.verdict import VerdictRule, decide

HEALTHY = PresenceFigures(
    present_pairs=100, absent_pairs=100, objects=300, present_mean=4.0, present_std=2.0, absent_mean=-4.0,
    absent_std=2.0, auroc=0.95, class_auroc=0.7, ece=0.05, found_by_class=0.8, found=0.7,
    lost_to_presence=0.12, false_per_absent=0.1, false_per_absent_ignoring=2.0, absent_with_detections=0.08,
    absent_with_detections_ignoring=0.9,
)  # fmt: skip
FAR = FeatureDrift(100, 8, 8, 0.2, 1.2, 1.0, 1.0, 1.0, 0.3)


def verdict(
    teacher: PresenceFigures | None = None, memory: FeatureDrift | None = None, **changes: float
) -> str:
    drift = {} if memory is None else {"fusion memory": memory}
    return decide(dataclasses.replace(HEALTHY, **changes), teacher, drift, VerdictRule()).repair  # type: ignore[arg-type]


@pytest.mark.parametrize("teacher", [None, HEALTHY])
def test_nothing_wrong_is_said(teacher: PresenceFigures | None) -> None:
    assert verdict(teacher) == "none"


@pytest.mark.parametrize("teacher", [None, HEALTHY])
def test_shifted_logits_that_still_rank_are_calibrated(teacher: PresenceFigures | None) -> None:
    # As reported: the mean of present pairs falls from -5.89 to -11.05, and nothing is found any more.
    assert verdict(teacher, present_mean=-11.05, lost_to_presence=1.0, found=0.0, ece=0.5) == "calibrate"


def test_losing_a_little_more_than_the_teacher_is_calibrated_and_as_much_is_not() -> None:
    """Students that lost 0.08 more of their detections won 4 and 5 points by it."""
    lost = HEALTHY.lost_to_presence
    assert [verdict(HEALTHY, lost_to_presence=lost + more) for more in (0.0, 0.03)] == ["none", "none"]
    assert [verdict(HEALTHY, lost_to_presence=lost + more) for more in (0.08, 0.3)] == ["calibrate"] * 2
    assert verdict(None, lost_to_presence=lost + 0.08) == "none"


@pytest.mark.parametrize("teacher", [None, HEALTHY])
def test_a_presence_that_says_yes_to_what_is_absent_is_calibrated_too(
    teacher: PresenceFigures | None,
) -> None:
    assert verdict(teacher, lost_to_presence=0.0, absent_with_detections=0.9) == "calibrate"


@pytest.mark.parametrize("teacher", [None, HEALTHY])
def test_a_lost_ranking_with_good_class_scores_is_finetuned(teacher: PresenceFigures | None) -> None:
    assert verdict(teacher, auroc=0.6, lost_to_presence=1.0) == "finetune"


def test_a_lost_ranking_over_another_memory_is_distilled() -> None:
    assert verdict(HEALTHY, FAR, auroc=0.6, lost_to_presence=1.0) == "distil"


@pytest.mark.parametrize("teacher", [None, HEALTHY])
def test_lost_class_scores_are_distilled_even_where_presence_ranks(teacher: PresenceFigures | None) -> None:
    assert verdict(teacher, found_by_class=0.1) == "distil"


def test_a_weak_teacher_is_the_bar_and_not_a_fixed_one() -> None:
    weak = dataclasses.replace(HEALTHY, auroc=0.7, found_by_class=0.2, absent_with_detections=0.4)
    assert verdict(weak, auroc=0.68, found_by_class=0.19, absent_with_detections=0.42) == "none"
    assert verdict(None, auroc=0.68) == "finetune"


def test_without_absent_pairs_no_verdict_is_given() -> None:
    # "99.6% presence accuracy" on present concepts alone hid a person found on every dog.
    assert verdict(None, absent_pairs=0) == "undecided"
    assert verdict(None, present_pairs=0) == "undecided"


def test_a_threshold_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="verdict.least_auroc is 80"):
        VerdictRule(least_auroc=80)
