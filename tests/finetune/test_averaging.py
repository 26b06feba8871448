"""Tuned weights averaged with the start's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.finetune.averaging import average_with_start
from conceptseg.finetune.forgetting import KeepConfig
from conceptseg.train.validation import Validation


class OneWeight:
    """A task whose detector is one number (and one count): the share of the tuned weights, as it were."""

    def __init__(self) -> None:
        self.detector = nn.BatchNorm1d(1)  # the start's weight is 0, the tuned one 1
        self.detector.num_batches_tracked.fill_(7)

    def eval(self) -> OneWeight:
        return self

    @property
    def weight(self) -> float:
        return round(self.detector.weight.item(), 4)


def averaged(figure: object, share: float | None = None, loss: float = 0.01) -> tuple[float, float]:
    """(share, weight in the end) where the look finds `figure(weight)`."""
    task = OneWeight()
    start = {name: torch.zeros_like(value) for name, value in task.detector.state_dict().items()}

    def look(asked: OneWeight, step: int) -> Validation:
        return Validation({"map": figure(asked.weight)}, "map", larger_is_better=True)  # type: ignore[operator]

    chosen = average_with_start(task, start, look, share, loss)  # type: ignore[arg-type]
    assert task.detector.num_batches_tracked.item() == 7  # a count is no weight
    return chosen, task.weight


def test_the_least_share_that_costs_nothing_is_taken() -> None:
    assert averaged(lambda weight: 0.8 if weight >= 0.7 else 0.7) == (0.7, 0.7)
    assert averaged(lambda weight: 0.8) == (0.4, 0.4)


def test_weights_that_only_work_as_they_were_tuned_are_kept() -> None:
    assert averaged(lambda weight: 0.8 * weight) == (1.0, 1.0)


def test_a_small_loss_is_a_fair_price_and_its_size_is_said() -> None:
    def figure(weight: float) -> float:
        return 0.8 if weight == 1 else 0.78  # 2.5% less

    assert averaged(figure) == (1.0, 1.0)
    assert averaged(figure, loss=0.03) == (0.4, 0.4)


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_where_nothing_is_found_nothing_is_averaged(nothing: float) -> None:
    assert averaged(lambda weight: nothing) == (1.0, 1.0)


def test_a_share_may_be_said() -> None:
    assert averaged(lambda weight: 0.8, share=0.5) == (0.5, 0.5)
    with pytest.raises(ConfigError, match="keep.tuned_share is 0"):
        KeepConfig(tuned_share=0)
