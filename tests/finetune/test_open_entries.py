"""What a recipe leaves open is decided from the model and the data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.data.concept_data import open_dataset
from conceptseg.errors import ConfigError, DataError
from conceptseg.finetune.open_entries import (
    MOST_QUERIES,
    STEPS,
    Crowding,
    fitting_queries,
    fitting_resolution,
    measure,
    settle,
    without_up,
)
from conceptseg.finetune.queries import with_more_queries
from conceptseg.finetune.recipe import PARTS, FinetuneRecipe
from conceptseg.finetune.splits import spread, train_and_judge
from conceptseg.models.config import DetectorConfig, ModelConfig, PreprocessingConfig
from conceptseg.models.presets import NANO
from conceptseg.train.recipe_file import read_recipe
from tests.tiles import write_tiles

SMALL = ModelConfig(NANO, PreprocessingConfig(resolution=64))
LARGE = ModelConfig(DetectorConfig())


def test_the_packaged_recipe_loads_and_is_settled_once(tiles: Path) -> None:
    recipe = settle(read_recipe(FinetuneRecipe, "finetune"), open_dataset(tiles, "train"), SMALL)
    assert recipe.steps == STEPS[0] and recipe.only == "all" and recipe.trainable == ()
    assert settle(recipe, open_dataset(tiles, "train"), SMALL) == recipe


def test_a_large_network_trains_its_heads_unless_told(tiles: Path) -> None:
    data = open_dataset(tiles, "train")
    recipe = settle(FinetuneRecipe(), data, LARGE)
    assert recipe.only == "heads" and recipe.trainable == PARTS["heads"]
    assert recipe.resolution == 1008
    assert settle(FinetuneRecipe(only="presence"), data, LARGE).trainable == ("decoder.presence_head",)


def test_epochs_say_the_steps(tiles: Path) -> None:
    recipe = settle(FinetuneRecipe(epochs=4), open_dataset(tiles, "train"), SMALL)
    assert recipe.steps == 3  # 4 times 6 images, 8 per step
    with pytest.raises(ConfigError, match="not both"):
        FinetuneRecipe(epochs=4, step_count=3)


def test_objects_are_measured(tiles: Path) -> None:
    crowding = measure(open_dataset(tiles, "train"))  # sides of 14 to 25 pixels in pictures of 80 x 60
    assert 14 / 80 < crowding.smallest < crowding.typical < 25 / 60
    assert crowding.most == 2


def test_small_objects_ask_for_a_larger_square_up_to_twice_the_models_own() -> None:
    few = Crowding(smallest=0.05, typical=0.1, most=5)
    assert fitting_resolution(few, 512, 32) == 512
    assert fitting_resolution(few, 192, 32) == 288  # 14 pixels / 0.05 = 280
    assert fitting_resolution(few, 64, 32) == 128


def test_dense_images_ask_for_more_queries_where_the_decoder_is_trained() -> None:
    dense = Crowding(smallest=0.05, typical=0.05, most=90)
    assert fitting_queries(dense, 100, "all") == fitting_queries(dense, 100, "heads") == 200
    assert fitting_queries(dense, 100, "presence") == 100
    assert fitting_queries(dense, 300, "all") == 300
    assert fitting_queries(Crowding(0.05, 0.05, 1000), 100, "all") == MOST_QUERIES


def test_new_queries_look_where_their_nearest_old_one_looks_and_change_no_old_one(model: Path) -> None:
    detector = load_model_folder(model)[0]
    larger = with_more_queries(detector, 30, side=0.1)
    assert larger.config.decoder.queries == 30
    before, after = detector.decoder, larger.decoder
    assert torch.equal(after.query_embedding[:12], before.query_embedding)
    boxes, old = after.reference_points[12:].sigmoid(), before.reference_points.sigmoid()
    assert torch.allclose(boxes[:, 2:], torch.tensor(0.1), atol=1e-4)
    nearest = (boxes[:, None] - old[None]).abs().sum(-1).argmin(1)
    assert torch.equal(after.query_embedding[12:], before.query_embedding[nearest])
    assert with_more_queries(detector, 12, side=0.1) is detector


def test_quarter_turns_are_for_what_has_no_up_and_down() -> None:
    assert without_up(["red blood cell", "Platelet"]) and without_up(["nuclei"])
    assert not without_up(["red blood cell", "dog"]) and not without_up([])


def test_without_a_held_out_split_a_part_of_the_images_judges(boxed: Path) -> None:
    parts = train_and_judge(boxed)
    assert parts.held_back and (len(parts.train), len(parts.judge)) == (7, 1)
    names = {image.path.name for part in (parts.train, parts.judge) for image in part}
    assert len(names) == 8
    assert train_and_judge(boxed).judge[0].path == parts.judge[0].path


def test_the_held_out_split_judges_and_may_be_cut_short(tiles: Path) -> None:
    parts = train_and_judge(tiles, most=3)
    assert not parts.held_back
    assert (parts.train.split, parts.judge.split, len(parts.judge)) == ("train", "valid", 3)


def test_images_are_taken_evenly_from_the_whole(tiles: Path) -> None:
    data = open_dataset(tiles, "train")
    names = [image.path.name for image in spread(data, 3)]
    assert names == ["train_0.png", "train_2.png", "train_4.png"]
    assert len(spread(data, 100)) == 6


def test_data_that_cannot_be_trained_on_is_named(tmp_path: Path, tiles: Path) -> None:
    one = write_tiles(tmp_path / "one", "train", images=1)
    with pytest.raises(DataError, match="one: the split train has nothing to learn from"):
        train_and_judge(one)
    few = write_tiles(tmp_path / "few", "train", images=2)
    (few / "train" / "train_1.png").unlink()
    with pytest.raises(DataError, match="1 of 2 images have no file: train_1.png"):
        train_and_judge(few)
    with pytest.raises(DataError, match='has no split "test"'):
        train_and_judge(tiles, held_out="test")
    with pytest.raises(DataError, match="cannot be trained on and judge as well"):
        train_and_judge(tiles, "valid", held_out="valid")


def test_unsettled_steps_are_an_error_of_the_caller() -> None:
    with pytest.raises(ConfigError, match="settle"):
        _ = dataclasses.replace(FinetuneRecipe(), seed=1).steps
