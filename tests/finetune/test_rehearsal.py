"""Old pictures between the new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.data.concept_batches import BatchConfig, ConceptBatches
from conceptseg.data.concept_data import open_dataset
from conceptseg.errors import ConfigError, DataError
from conceptseg.finetune import finetune
from conceptseg.finetune.forgetting import REHEARSAL, KeepConfig
from conceptseg.finetune.open_entries import STEPS, settle
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.rehearsal import RehearsedBatches, open_rehearsal, rehearsals
from conceptseg.finetune.run import open_job
from conceptseg.models.config import ModelConfig
from conceptseg.models.presets import NANO
from conceptseg.train.job import run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder
from tests.conftest import make_tiny_segmenter
from tests.finetune.quick import OVERRIDES
from tests.tiles import write_tiles
from tests.train.tiny import StopAfter


@pytest.fixture(scope="module")
def of_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same small model; it says that it knows scenes."""
    segmenter = make_tiny_segmenter(knows_scenes=True)
    folder = tmp_path_factory.mktemp("model") / "of_scenes"
    save_model_folder(folder, segmenter.detector, segmenter.tokenizer, segmenter.config)
    return folder


@pytest.fixture
def make(tiles: Path, boxed: Path, model: Path) -> Any:
    tokenizer = load_model_folder(model)[1]

    def make(share: float, images: int = 2, **said: Any) -> RehearsedBatches:
        values = {"steps": 8, "resolution": 64, "window_resolution": 32, "turns": False, "seed": 3, **said}
        config = BatchConfig(images=images, workers=0)
        new, old = (
            ConceptBatches(open_dataset(data, "train"), tokenizer, config, **values)
            for data in (tiles, boxed)
        )
        return RehearsedBatches(new, old, share)

    return make


def is_old(data: RehearsedBatches, step: int) -> bool:
    return rehearsals(step + 1, data.share) > rehearsals(step, data.share)


def test_old_pictures_come_evenly_and_no_new_one_is_passed_over(make: Any) -> None:
    data = make(0.25)
    assert [is_old(data, step) for step in range(8)] == [False, False, False, True] * 2
    new = [data[step].pixels for step in range(8) if not is_old(data, step)]
    assert all(torch.equal(pixels, data.new[number].pixels) for number, pixels in enumerate(new))
    assert torch.equal(data[3].pixels, data.old[0].pixels) and torch.equal(data[7].pixels, data.old[1].pixels)
    assert [data.side(step) for step in range(8)] == [data[step].pixels.shape[-1] for step in range(8)]


def test_two_processes_rehearse_in_the_same_steps_and_see_what_one_sees_with_twice_the_batch(
    make: Any,
) -> None:
    for step in (2, 3):
        halves = [make(0.25, images=2, process=process, processes=2)[step] for process in range(2)]
        whole = make(0.25, images=4)[step]
        assert torch.equal(torch.cat([half.pixels for half in halves]), whole.pixels)
        assert [phrase for half in halves for phrase in half.phrases] == whole.phrases


def test_a_model_that_was_made_from_scenes_rehearses_them_and_no_other_does(tiles: Path) -> None:
    data = open_dataset(tiles, "train")
    plain, of_scenes = ModelConfig(NANO), ModelConfig(NANO, knows_scenes=True)
    shares = [settle(FinetuneRecipe(), data, config).keep.rehearsal for config in (plain, of_scenes)]
    assert shares == [0.0, REHEARSAL]
    named = FinetuneRecipe(keep=KeepConfig(data="old"))
    assert settle(named, data, plain).keep.rehearsal == REHEARSAL
    none = FinetuneRecipe(keep=KeepConfig(rehearsal=0.0))
    assert settle(none, data, of_scenes).keep.rehearsal == 0.0


def test_the_embedded_model_knows_scenes() -> None:
    assert cs.load("nano").config.knows_scenes


def test_rehearsal_comes_on_top_of_the_steps_on_the_data(tiles: Path) -> None:
    data, config = open_dataset(tiles, "train"), ModelConfig(NANO, knows_scenes=True)
    recipe = settle(FinetuneRecipe(), data, config)
    assert recipe.steps - rehearsals(recipe.steps, REHEARSAL) == STEPS[0]
    assert settle(FinetuneRecipe(step_count=8), data, config).steps == 8


def test_a_run_rehearses_scenes_says_so_and_leaves_none_behind(
    of_scenes: Path, tiles: Path, tmp_path: Path
) -> None:
    said = [*OVERRIDES, "keep.scenes=4", "keep.rehearsal=0.5"]
    tuned = finetune(tiles, str(of_scenes), tmp_path / "run", overrides=said)
    config = cs.load(tuned.model).config
    assert config.provenance["rehearsed"] == "procedural scenes" and config.knows_scenes
    assert not (tmp_path / "run" / "rehearsal").exists()


def test_a_rehearsing_run_that_was_stopped_resumes_to_the_same_weights(
    of_scenes: Path, tiles: Path, tmp_path: Path
) -> None:
    said = [*OVERRIDES, "keep.scenes=4", "keep.rehearsal=0.5"]
    finetune(tiles, str(of_scenes), tmp_path / "whole", overrides=said)
    stopped = {"data": str(tiles), "model": str(of_scenes)}
    recipe = read_recipe(FinetuneRecipe, "finetune", said, stopped)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 2"):
        run_job(open_job(recipe, RunFolder(tmp_path / "stopped")), stop=StopAfter(2))
    finetune(tiles, str(of_scenes), tmp_path / "stopped", overrides=said, resume=True)
    whole, stopped = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["task"] for name in ("whole", "stopped")
    )
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


def test_a_folder_of_ones_own_is_rehearsed(model: Path, tiles: Path, boxed: Path, tmp_path: Path) -> None:
    said = [*OVERRIDES, f"keep.data={boxed}", "step_count=4"]
    tuned = finetune(tiles, str(model), tmp_path / "run", overrides=said)
    config = cs.load(tuned.model).config
    assert config.provenance["rehearsed"] == "boxed" and not config.knows_scenes
    lines = [line for line in RunFolder(tmp_path / "run").metrics() if line["kind"] == "train"]
    # Every fourth step has boxes only: nothing is said about masks in it.
    assert [line["loss/mask_dice"] == 0 for line in lines][3]


def test_what_cannot_be_rehearsed_is_named_before_anything_is_written(
    model: Path, tiles: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(FinetuneRecipe, "finetune", [f"data={tiles}", f"model={model}", "keep.data=nothing"])
    with pytest.raises(DataError, match="no such file or folder"):
        open_job(recipe, RunFolder(tmp_path / "run"))
    bare = write_tiles(tmp_path / "bare", "train", images=1)
    with pytest.raises(DataError, match="nothing to rehearse: it names no object"):
        open_rehearsal(bare)
    with pytest.raises(ConfigError, match="keep.rehearsal is 1.0"):
        KeepConfig(rehearsal=1.0)
    assert not (tmp_path / "run").exists()
