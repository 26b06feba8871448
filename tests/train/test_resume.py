"""A run that was stopped at any moment and resumed is the run that was not stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.train.run import train_recipe
from conceptseg.train.run_folder import RunFolder
from tests.train.tiny import SAVE_EVERY, STEPS, TINY, write_recipe

ROOT = Path(__file__).parents[2]
MOMENTS = {
    "before the first checkpoint": "log:2",
    "between two checkpoints": "log:5",
    "while a checkpoint is written": "save:6",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the interrupted runs are forked"),
]


def start(*arguments: object, own_group: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=own_group,
        capture_output=True,
        text=True,
        timeout=600,
    )


def assert_same(one: Any, other: Any, where: str = "checkpoint") -> None:
    """Every number of two nested states, to the last bit."""
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    states = [torch.load(folder.checkpoint_path, weights_only=True) for folder in (one, other)]
    assert_same(*states)
    assert one.best_path.read_bytes() == other.best_path.read_bytes()
    for name in ("model.safetensors", "tokenizer.json"):
        assert (one.model_path / name).read_bytes() == (other.model_path / name).read_bytes()
    timeless = [
        [{k: v for k, v in line.items() if k != "pairs_per_second"} for line in folder.metrics()]
        for folder in (one, other)
    ]
    assert timeless[0] == timeless[1]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml")


@pytest.fixture(scope="module")
def whole(recipe: Path) -> RunFolder:
    """The run that nobody stopped."""
    folder = RunFolder(recipe.parent / "whole")
    train_recipe(recipe, out=folder.path)
    return folder


@pytest.fixture(scope="module")
def killed(recipe: Path) -> dict[str, RunFolder]:
    folders = {moment: RunFolder(recipe.parent / moment.replace(":", "-")) for moment in MOMENTS.values()}
    pairs = [part for moment, folder in folders.items() for part in (moment, folder.path)]
    finished = start("-m", "tests.train.interrupted", recipe, *pairs)
    assert finished.stdout.splitlines() == [f"{moment} -9" for moment in folders], finished.stderr
    return folders


def test_the_whole_run_logs_every_step_once(whole: RunFolder) -> None:
    lines = [(line["kind"], line["step"]) for line in whole.metrics()]
    assert [step for kind, step in lines if kind == "train"] == list(range(1, STEPS + 1))
    assert [step for kind, step in lines if kind == "validation"] == [4, STEPS]


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights_and_metrics(
    moment: str, recipe: Path, whole: RunFolder, killed: dict[str, RunFolder]
) -> None:
    folder = killed[moment]
    assert not folder.model_path.exists()
    assert folder.checkpoint_path.exists() == (moment != "log:2")
    train_recipe(recipe, out=folder.path, resume=True)
    assert_same_run(folder, whole)
    assert [path.name for path in folder.path.glob(".*")] == []  # the half-written checkpoint is gone


def test_sigterm_to_the_whole_process_group_finishes_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, whole: RunFolder
) -> None:
    """Workers included: schedulers signal the group, and the workers must outlive the step."""
    recipe = write_recipe(tmp_path / "tiny.yaml", data={**TINY["data"], "workers": 1})
    folder = RunFolder(tmp_path / "run")
    stopped = start("-m", "tests.train.interrupted", recipe, "term:5", folder.path, own_group=True)
    assert stopped.stdout == "term:5 130\n", stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "stopped after step 5; go on with --resume"
    assert "Traceback" not in stopped.stderr
    assert int(torch.load(folder.checkpoint_path, weights_only=True)["step"]) == 5 != SAVE_EVERY

    command = "import sys; from conceptseg.cli.main import main; sys.exit(main())"
    resumed = start("-c", command, "train", recipe, "--out", folder.path, "--resume")
    assert (resumed.returncode, resumed.stdout) == (0, f"wrote {folder.model_path}\n"), resumed.stderr
    assert_same_run(folder, whole)


def test_a_finished_run_resumes_to_its_end_and_writes_the_model_again(
    recipe: Path, whole: RunFolder, tmp_path: Path
) -> None:
    """As after a kill between the last checkpoint and the model."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(whole.path, folder.path, ignore=shutil.ignore_patterns("model"))
    train_recipe(recipe, out=folder.path, resume=True)
    assert_same_run(folder, whole)


def test_the_trained_model_loads_with_its_preprocessing(whole: RunFolder) -> None:
    detector, tokenizer, config = load_model_folder(whole.model_path)
    assert detector.config.width == 32
    assert tokenizer.vocab_size <= 512
    assert config.preprocessing.resolution == 64
    told = {"name": "tiny", "recipe": "tiny", "data": "procedural scenes", "steps": STEPS, "seed": 4}
    assert config.provenance == told
