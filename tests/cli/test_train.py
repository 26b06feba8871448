"""`conceptseg train`: the arguments reach the library, a stop says how to go on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.finished import Run, assert_one_error


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Training is tested where it lives; here it only notes what it was called with."""
    seen: list[tuple[Any, ...]] = []

    def train_recipe(*arguments: Any) -> Path:
        seen.append(arguments)
        return Path("runs/nano/model")

    monkeypatch.setattr("conceptseg.train.run.train_recipe", train_recipe)
    return seen


def test_recipe_and_overrides_reach_the_library(run: Run, calls: list[tuple[Any, ...]]) -> None:
    finished = run("train", "nano", "seed=1", "--resume", "optimiser.lr=1e-4", "--out", "runs/a")
    assert calls == [("nano", ["seed=1", "optimiser.lr=1e-4"], Path("runs/a"), True)]
    assert finished.out == f"wrote {Path('runs/nano/model')}\n"


def test_the_run_folder_is_the_librarys_choice_unless_given(run: Run, calls: list[tuple[Any, ...]]) -> None:
    run("train", "nano")
    assert calls == [("nano", [], None, False)]


def test_an_interrupted_run_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Path:
        raise KeyboardInterrupt("stopped after step 40; go on with --resume")

    monkeypatch.setattr("conceptseg.train.run.train_recipe", stop)
    finished = run("train", "nano")
    assert (finished.code, finished.err) == (130, "stopped after step 40; go on with --resume\n")


def test_a_missing_training_package_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "conceptseg.train.run", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert_one_error(run("train", "nano"), "accelerate", "conceptseg[train]")


def test_an_unknown_recipe_and_a_wrong_override_are_one_line(run: Run, tmp_path: Path) -> None:
    assert_one_error(run("train", "naon"), "naon")
    (tmp_path / "mine.yaml").write_text("seed: 0\n")
    assert_one_error(run("train", "mine.yaml", "seed"), "seed")
