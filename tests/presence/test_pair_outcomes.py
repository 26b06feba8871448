"""Found, lost to presence, falsely found: counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from conceptseg.models.config import PresenceCalibration
from conceptseg.presence.pair_outcomes import PairAnswer, presence_figures, read_answer
from conceptseg.presence_reading import PresenceMode, PresenceReading

OBJECTS = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]
# One query on each object, a second one on the first object, one beside everything.
BOXES = torch.tensor([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 9], [50, 50, 60, 60.0]])
CLASS_LOGITS = torch.tensor([3.0, 0.5, 2.0, 1.0])  # 0.95, 0.62, 0.88, 0.73


def answer(
    presence_logit: float, present: bool = True, mode: PresenceMode = "multiply", **changes: object
) -> PairAnswer:
    options = {
        "present": present,
        "exhaustive": True,
        "threshold": 0.5,
        "reading": PresenceReading(mode, PresenceCalibration(scale=2.0, offset=20.0)),
        **changes,
    }
    objects = OBJECTS if present else []
    return read_answer("coin", CLASS_LOGITS, presence_logit, BOXES, objects, **options)  # type: ignore[arg-type]


def test_a_sure_presence_loses_nothing() -> None:
    sure = answer(10.0)
    assert (sure.objects, sure.found_by_class, sure.found) == (2, 2, 2)
    assert (sure.detections_by_class, sure.detections) == (4, 4)


def test_a_doubtful_presence_loses_the_weaker_detection() -> None:
    doubtful = answer(1.0)  # 0.73 x each of 0.95, 0.62, 0.88, 0.73: all but 0.45 stay above a half
    assert (doubtful.found_by_class, doubtful.found) == (2, 1)
    assert doubtful.detections == 3


def test_a_collapsed_presence_loses_all_and_calibration_or_ignoring_brings_it_back() -> None:
    # What users report: logit -11.05, so that nothing passes.
    assert (answer(-11.05).found, answer(-11.05).detections) == (0, 0)
    assert answer(-11.05, mode="ignore").found == 2
    assert answer(-8.0, mode="calibrated").found == 2  # 2 x -8 + 20 = 4


def test_a_pair_that_is_not_fully_annotated_says_nothing_about_objects() -> None:
    partial = answer(10.0, exhaustive=False)
    assert (partial.objects, partial.found_by_class, partial.found) == (0, 0, 0)
    assert partial.present


def test_figures_judge_absent_pairs_as_much_as_present_ones() -> None:
    figures = presence_figures([answer(1.0), answer(10.0), answer(-11.05, False), answer(2.0, False)])
    assert (figures.present_pairs, figures.absent_pairs, figures.objects) == (2, 2, 4)
    assert figures.present_mean == 5.5
    assert figures.auroc == 0.75
    assert figures.found_by_class == 1
    assert figures.lost_to_presence == 0.25
    assert figures.false_per_absent_ignoring == 4
    # Logit 2 is 0.88, and 0.88 x 0.62 is still above a half: four for one of the two.
    assert figures.false_per_absent == pytest.approx(4 / 2)
    assert (figures.absent_with_detections, figures.absent_with_detections_ignoring) == (0.5, 1)


def test_an_ignored_presence_is_still_judged_for_calibration() -> None:
    figures = presence_figures([answer(10.0, mode="ignore"), answer(-10.0, False, mode="ignore")])
    assert figures.ece < 0.001
    assert figures.absent_with_detections == 1


def test_nothing_asked_is_undefined_and_not_zero() -> None:
    figures = presence_figures([])
    assert math.isnan(figures.auroc) and math.isnan(figures.lost_to_presence) and math.isnan(figures.ece)
