"""Counting boxes straight from the output."""

from __future__ import annotations

import torch

from conceptseg.exemplars.box_f1 import box_f1
from conceptseg.losses.targets import Targets
from conceptseg.models.config import PresenceCalibration
from conceptseg.models.detector import DetectorOutput
from conceptseg.presence_reading import PresenceMode, PresenceReading

LEFT, RIGHT, MIDDLE = [0.2, 0.5, 0.2, 0.4], [0.8, 0.5, 0.2, 0.4], [0.5, 0.5, 0.2, 0.4]


def counts(
    scores: list[float],
    boxes: list[list[float]],
    wanted: list[list[float]],
    presence: float = 9.0,
    mode: PresenceMode = "multiply",
    offset: float = 0.0,
):
    output = DetectorOutput(
        class_logits=torch.tensor(scores).logit()[None, :, None],
        boxes_cxcywh=torch.tensor(boxes)[None, :, None],
        presence_logits=torch.tensor([[presence]]),
        hidden=torch.zeros(len(boxes), 1, 4),
    )
    slots = torch.tensor([[*wanted, MIDDLE]])
    valid = torch.tensor([[True] * len(wanted) + [False]])
    targets = Targets(slots, valid, valid.any(1), None, torch.zeros_like(valid))
    return box_f1(output, targets, PresenceReading(mode, PresenceCalibration(offset=offset))).tolist()


def test_found_predicted_and_wanted_are_counted() -> None:
    assert counts([0.9, 0.8], [LEFT, MIDDLE], [LEFT, RIGHT]) == [1, 2, 2]
    assert counts([0.9, 0.8], [RIGHT, LEFT], [LEFT, RIGHT]) == [2, 2, 2]


def test_two_answers_for_one_object_count_once() -> None:
    assert counts([0.9, 0.8], [LEFT, LEFT], [LEFT]) == [1, 2, 1]


def test_low_scores_and_absent_concepts_answer_nothing() -> None:
    assert counts([0.4, 0.3], [LEFT, RIGHT], [LEFT]) == [0, 0, 1]
    assert counts([0.9, 0.9], [LEFT, RIGHT], [LEFT], presence=-9.0) == [0, 0, 1]
    assert counts([0.9, 0.4], [LEFT, RIGHT], []) == [0, 1, 0]


def test_a_repaired_model_is_counted_as_it_is_read_in_use() -> None:
    """What users report of a student: a presence logit of -11.05 wherever the concept is."""
    collapsed = ([0.9, 0.8], [LEFT, RIGHT], [LEFT, RIGHT], -11.05)
    assert counts(*collapsed) == [0, 0, 2]
    assert counts(*collapsed, "ignore") == [2, 2, 2]
    assert counts(*collapsed, "calibrated", 15.0) == [2, 2, 2]
