"""What a look at held-out data decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from conceptseg.train.job import Work
from conceptseg.train.loop import ValidationHistory
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.validation import Validation
from tests.train.tiny import TINY

Train = Callable[..., RunFolder]


def test_lower_cost_is_better_whichever_way_the_value_points() -> None:
    assert Validation({"loss": 2.0}, "loss").cost == 2.0
    assert Validation({"ap": 0.7}, "ap", larger_is_better=True).cost == -0.7
    assert Validation({"ap": math.nan}, "ap", larger_is_better=True).cost == math.inf


def test_looks_without_a_better_one_are_counted() -> None:
    history = ValidationHistory()
    assert [history.note(cost) for cost in (3.0, 4.0, 3.0, 2.0, 5.0)] == [True, False, False, True, False]
    assert (history.best, history.stale) == (2.0, 1)
    assert history.enough(1) and not history.enough(2) and not history.enough(None)


def test_a_run_ends_early_when_nothing_gets_better_and_resumes_to_the_same_end(train: Train) -> None:
    def flat(work: Work) -> None:
        work.validate = lambda task, step: Validation({"loss/total": 1.0}, "loss/total")

    changes: dict[str, Any] = {
        "change": flat,
        "data": {"workers": 0, "stages": [{**TINY["data"]["stages"][0], "steps": 6}]},
        "validate_every": 1,
        "save_every": 1,
        "patience": 2,
    }
    folder = train(**changes)
    assert [line["step"] for line in folder.metrics() if line["kind"] == "train"] == [1, 2, 3]
    state = torch.load(folder.checkpoint_path, weights_only=True)
    assert (state["step"], state["best"], state["stale"]) == (3, 1.0, 2)
    train(resume=True, **changes)
    assert torch.load(folder.checkpoint_path, weights_only=True)["step"] == 3
