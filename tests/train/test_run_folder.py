"""A run folder is never overwritten, and goes on only with what it was begun with."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from conceptseg.errors import TrainingError
from conceptseg.train.recipe import load_recipe
from conceptseg.train.run_folder import RunFolder
from tests.train.tiny import draw_losses, write_recipe

STATE = {"task": {}, "optimiser": {}, "step": 4, "best": 1.5}


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "tiny.yaml")


@pytest.fixture
def folder(tmp_path: Path, recipe_path: Path) -> RunFolder:
    """A run that has just begun."""
    folder = RunFolder(tmp_path / "runs" / "tiny")
    folder.start(load_recipe(recipe_path))
    return folder


def test_a_begun_run_is_not_overwritten(folder: RunFolder, recipe_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"already holds a run \(recipe.yaml\); go on with --resume"):
        folder.start(load_recipe(recipe_path))


@pytest.mark.parametrize("name", ["last.pt", "metrics.jsonl", "tokenizer.json", "best.safetensors", "model"])
def test_parts_of_a_run_are_not_mixed_into_another(tmp_path: Path, recipe_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).touch()
    with pytest.raises(TrainingError, match=f"already holds a run \\({name}\\)"):
        RunFolder(tmp_path / "run").start(load_recipe(recipe_path))


def test_a_folder_of_other_things_can_hold_a_run(tmp_path: Path, recipe_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    RunFolder(tmp_path).start(load_recipe(recipe_path))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, recipe_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(TrainingError, match="is a file; give a folder"):
        RunFolder(tmp_path / "run").start(load_recipe(recipe_path))


def test_there_must_be_a_run_to_resume(tmp_path: Path, recipe_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run to resume"):
        RunFolder(tmp_path).load(load_recipe(recipe_path))


def test_another_recipe_is_not_resumed_and_the_difference_is_named(
    folder: RunFolder, recipe_path: Path
) -> None:
    other = load_recipe(recipe_path, ["optimiser.lr=0.5", "seed=9"])
    with pytest.raises(
        TrainingError, match="begun with another recipe: seed is 4 and 9 and 1 more; resume with the same one"
    ):
        folder.load(other)


def test_a_run_begun_before_a_recipe_had_a_key_resumes_with_its_default(
    folder: RunFolder, recipe_path: Path
) -> None:
    lines = folder.recipe_path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("ema_decay")]
    folder.recipe_path.write_text("".join(kept))
    with pytest.raises(TrainingError, match="ema_decay is 0.999 and 0.9"):
        folder.load(load_recipe(recipe_path))
    assert folder.load(load_recipe(recipe_path, ["ema_decay=0.999"])) is None


def test_a_recipe_file_that_was_damaged_is_named(folder: RunFolder, recipe_path: Path) -> None:
    folder.recipe_path.write_text("sede: 1\n")
    with pytest.raises(TrainingError, match="cannot resume: .*recipe.yaml: .*unknown key 'sede'"):
        folder.load(load_recipe(recipe_path))


def test_without_a_checkpoint_the_run_starts_over(folder: RunFolder, recipe_path: Path) -> None:
    assert folder.load(load_recipe(recipe_path)) is None


def test_a_checkpoint_comes_back_as_it_was_saved(folder: RunFolder, recipe_path: Path) -> None:
    folder.save({**STATE, "task": {"weight": torch.arange(3.0)}})
    state = folder.load(load_recipe(recipe_path))
    assert state is not None and (state["step"], state["best"]) == (4, 1.5)
    assert state["task"]["weight"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("cut", [0, 100])
def test_a_damaged_checkpoint_is_named(folder: RunFolder, recipe_path: Path, cut: int) -> None:
    folder.save(STATE)
    folder.checkpoint_path.write_bytes(folder.checkpoint_path.read_bytes()[:cut])
    with pytest.raises(TrainingError, match="cannot read the checkpoint .*last.pt"):
        folder.load(load_recipe(recipe_path))


@pytest.mark.parametrize("content", [{"step": 1}, [1, 2]])
def test_a_torch_file_of_something_else_is_no_checkpoint(
    folder: RunFolder, recipe_path: Path, content: object
) -> None:
    torch.save(content, folder.checkpoint_path)
    with pytest.raises(TrainingError, match="last.pt is no checkpoint of a run: no best, optimiser"):
        folder.load(load_recipe(recipe_path))


def test_a_checkpoint_that_could_run_code_is_refused(folder: RunFolder, recipe_path: Path) -> None:
    torch.save({**STATE, "task": Path("x")}, folder.checkpoint_path)
    with pytest.raises(TrainingError, match="cannot read the checkpoint"):
        folder.load(load_recipe(recipe_path))


def test_a_save_that_fails_leaves_the_last_checkpoint(folder: RunFolder, recipe_path: Path) -> None:
    folder.save(STATE)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        folder.save({**STATE, "step": 8, "task": lambda: None})  # of which there is no pickle
    state = folder.load(load_recipe(recipe_path))
    assert state is not None and state["step"] == 4
    assert list(folder.path.glob(".*")) == []


def test_loading_changes_nothing_and_rewinding_drops_what_will_be_run_again(
    folder: RunFolder, recipe_path: Path
) -> None:
    for step in (2, 4, 6):
        folder.log({"step": step, "kind": "train"})
    folder.save(STATE)
    leftover = folder.path / ".last.pt.abc.part"
    leftover.touch()
    folder.load(load_recipe(recipe_path))
    assert [line["step"] for line in folder.metrics()] == [2, 4, 6] and leftover.exists()
    folder.rewind(4)
    assert [line["step"] for line in folder.metrics()] == [2, 4] and not leftover.exists()
    folder.log({"step": 6, "kind": "train"})
    assert [json.loads(line)["step"] for line in folder.metrics_path.read_text().splitlines()] == [2, 4, 6]


def test_a_line_that_a_kill_cut_in_half_is_ignored_and_goes_away(folder: RunFolder) -> None:
    folder.log({"step": 1, "kind": "train"})
    with folder.metrics_path.open("a") as file:
        file.write('{"step": 2, "ki')
    assert folder.metrics() == [{"step": 1, "kind": "train"}]
    folder.rewind(2)
    assert folder.metrics_path.read_text() == '{"step": 1, "kind": "train"}\n'


def test_the_figure_shows_training_and_held_out_losses(folder: RunFolder) -> None:
    draw_losses(folder)
    assert not (folder.path / "losses.png").exists()  # nothing logged, nothing drawn
    for step in (1, 2):
        folder.log({"step": step, "kind": "train", "loss/total": 3.0 / step, "loss/presence": 0.0, "lr": 1.0})
    folder.log({"step": 2, "kind": "validation", "loss/total": 2.0})
    draw_losses(folder)
    assert (folder.path / "losses.png").read_bytes().startswith(b"\x89PNG")
