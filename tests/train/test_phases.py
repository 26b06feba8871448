"""The progressive schedule, phase by phase."""

from __future__ import annotations

import pytest

from conceptseg.errors import ConfigError
from conceptseg.losses.alignment import ANALYSED
from conceptseg.train.exemplar_alignment import ExemplarAlignment
from conceptseg.train.phases import JOINT, PROGRESSIVE, AlignmentPhase, check_phases, phase_at


@pytest.mark.parametrize(
    ("progress", "weight", "rate"),
    (
        (0.0, 0.1, 0.1),
        (0.199, 0.1, 0.1),
        (0.2, 0.3, 0.5),
        (0.699, 0.3, 0.5),
        (0.7, 0.1, 1.0),
        (1.0, 0.1, 1.0),
    ),
)
def test_phase_ends_are_cumulative(progress: float, weight: float, rate: float) -> None:
    phase = phase_at(progress)
    assert (phase.weight, phase.rate) == (weight, rate)


@pytest.mark.parametrize("progress", (-0.001, 1.001, float("nan"), float("inf")))
def test_progress_outside_the_training_is_an_error(progress: float) -> None:
    with pytest.raises(ConfigError, match="it must be from 0 to 1"):
        phase_at(progress)


def test_one_phase_is_the_joint_objective() -> None:
    assert {phase_at(progress, JOINT).weight for progress in (0.0, 0.5, 1.0)} == {0.3}


def test_phases_that_do_not_cover_the_training_are_refused() -> None:
    check_phases(PROGRESSIVE)
    for ends in ((), (0.2, 0.7), (0.7, 0.2, 1.0), (0.5, 0.5, 1.0)):
        with pytest.raises(ConfigError, match="their ends must rise and the last must be 1.0"):
            check_phases(tuple(AlignmentPhase(until=end) for end in ends))
    for wrong in ({"until": 0.0}, {"until": 1.2}, {"weight": -0.1}, {"rate": 0.0}):
        with pytest.raises(ConfigError, match="a phase "):
            AlignmentPhase(**wrong)


def test_the_phase_of_a_step_depends_on_the_step_alone() -> None:
    alignment = ExemplarAlignment(8, steps=10)
    assert [alignment.phase(step).weight for step in range(10)] == [0.1] * 2 + [0.3] * 5 + [0.1] * 3
    assert alignment.weights(4) == {"exemplar_contrastive": 0.3}
    both = ExemplarAlignment(8, ANALYSED, steps=10)
    assert both.weights(4) == {"exemplar_contrastive": 0.3, "exemplar_distillation": 0.3}
    with pytest.raises(ConfigError, match="progress is 1.1"):
        alignment.phase(11)
