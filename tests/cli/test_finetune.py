"""`conceptseg finetune`: the arguments reach the library, the table is printed, a stop says how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conceptseg.finetune import Tuned
from tests.cli.finished import Run, assert_one_error


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Fine-tuning is tested where it lives; here it only notes what it was called with."""
    seen: list[tuple[Any, ...]] = []

    def finetune(*arguments: Any, **options: Any) -> Tuned:
        seen.append((*arguments, options))
        return Tuned(Path("run/model"), Path("run/report.md"), None)

    monkeypatch.setattr("conceptseg.finetune.run.finetune", finetune)
    return seen


def test_arguments_reach_the_library(run: Run, calls: list[tuple[Any, ...]]) -> None:
    arguments = [
        "my-data",
        "seed=1",
        "--model",
        "sam3.pt",
        "--only",
        "heads",
        "--epochs",
        "2.5",
        "--out",
        "a",
    ]
    assert run("finetune", *arguments, "--resume", "--resolution", "256").code == 0
    said = {"epochs": 2.5, "only": "heads", "resolution": 256, "overrides": ["seed=1"], "resume": True}
    assert calls == [(Path("my-data"), "sam3.pt", Path("a"), said)]


def test_what_is_not_given_is_left_to_the_library(run: Run, calls: list[tuple[Any, ...]]) -> None:
    run("finetune", "my-data")
    said = {"epochs": None, "only": None, "resolution": None, "overrides": [], "resume": False}
    assert calls == [(Path("my-data"), "nano", Path("runs/finetune"), said)]


def test_an_interrupted_run_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Tuned:
        raise KeyboardInterrupt("stopped after step 40; go on with --resume")

    monkeypatch.setattr("conceptseg.finetune.run.finetune", stop)
    finished = run("finetune", "my-data")
    assert (finished.code, finished.err) == (130, "stopped after step 40; go on with --resume\n")


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    assert_one_error(run("finetune", tmp_path / "none", "--out", tmp_path / "run"), "none")
    assert_one_error(run("finetune", tmp_path, "--only", "eyes"), "eyes")
    assert_one_error(run("finetune", tmp_path, "lr=1"), "lr")
