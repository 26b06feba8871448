"""From a recipe to a run: what is refused, and what a run can start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.errors import ConfigError, TrainingError
from conceptseg.train.run import train_recipe
from conceptseg.train.run_folder import RunFolder
from tests.train.tiny import TINY, write_recipe

Train = Callable[..., RunFolder]
ONE_STEP = {"workers": 0, "stages": [{**TINY["data"]["stages"][0], "steps": 1}]}


def test_the_run_folder_is_named_after_the_recipe_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"data": ONE_STEP, "validation_batches": 0, "dedupe": "nms", "mask_margin": 0.25}
    model = train_recipe(write_recipe(tmp_path / "any.yaml", **changes))
    assert model == Path("runs/tiny/model")
    _, _, config = load_model_folder(tmp_path / model)
    assert (config.dedupe, config.mask_margin) == ("nms", 0.25) and config.knows_scenes


def test_a_second_run_does_not_overwrite_the_first(train: Train) -> None:
    folder = train(data=ONE_STEP, validation_batches=0)
    before = folder.checkpoint_path.read_bytes()
    with pytest.raises(TrainingError, match="already holds a run"):
        train(data=ONE_STEP, validation_batches=0)
    assert folder.checkpoint_path.read_bytes() == before


def test_a_run_does_not_resume_with_another_number_of_processes(train: Train) -> None:
    folder = train(data=ONE_STEP, validation_batches=0)
    state = torch.load(folder.checkpoint_path, weights_only=True)
    folder.save({**state, "processes": 2})
    with pytest.raises(TrainingError, match="begun with 2 processes and not 1.*resume with 2"):
        train(resume=True, data=ONE_STEP, validation_batches=0)


def test_a_checkpoint_of_other_shapes_is_refused(train: Train) -> None:
    folder = train(data=ONE_STEP, validation_batches=0)
    state = torch.load(folder.checkpoint_path, weights_only=True)
    del state["task"]["detector.decoder.presence_token"]
    folder.save(state)
    with pytest.raises(TrainingError, match="the checkpoint's task does not fit .*presence_token"):
        train(resume=True, data=ONE_STEP, validation_batches=0)


def test_a_short_run_validates_on_as_many_batches_as_it_has_steps(train: Train) -> None:
    folder = train(data=ONE_STEP, validation_batches=8)
    assert [line["kind"] for line in folder.metrics()] == ["train", "validation"]


def test_a_run_can_start_from_a_model_folder_and_keeps_its_tokenizer(train: Train, tmp_path: Path) -> None:
    first = train(data=ONE_STEP, validation_batches=0, weights_dtype="float32")
    first.path.rename(tmp_path / "first")
    start = str(tmp_path / "first" / "model")
    changes: dict[str, Any] = {"data": ONE_STEP, "validation_batches": 0, "optimiser": {"lr": 1e-12}}
    second = train(model={**TINY["model"], "start": start}, weights_dtype="float32", **changes)
    assert (second.model_path / "tokenizer.json").read_bytes() == (
        tmp_path / "first" / "model" / "tokenizer.json"
    ).read_bytes()
    before, after = (load_model_folder(path)[0] for path in (start, second.model_path))
    for name, value in after.named_parameters():
        assert torch.allclose(value, before.get_parameter(name), atol=1e-6), name


def test_a_start_of_another_architecture_is_refused(train: Train, tmp_path: Path) -> None:
    first = train(data=ONE_STEP, validation_batches=0)
    first.path.rename(tmp_path / "first")
    with pytest.raises(ConfigError, match="model.start .* has another architecture than model.preset 'nano'"):
        train(model={"preset": "nano", "start": str(tmp_path / "first" / "model")}, data=ONE_STEP)


def test_mask_logits_of_the_saved_model_can_be_scaled(train: Train, tmp_path: Path) -> None:
    heads = []
    for number, scale in enumerate((1.0, 0.25)):
        run = train(data=ONE_STEP, validation_batches=0, weights_dtype="float32", saved_mask_scale=scale)
        run.path.rename(tmp_path / str(number))
        heads.append(load_model_folder(tmp_path / str(number) / "model")[0].mask_head)
    last = "mask_embedding.layers.2.weight"
    torch.testing.assert_close(heads[1].get_parameter(last), heads[0].get_parameter(last) / 4)


def test_what_fits_of_another_architecture_can_be_taken(train: Train, tmp_path: Path) -> None:
    first = train(data=ONE_STEP, validation_batches=0, weights_dtype="float32")
    first.path.rename(tmp_path / "first")
    start = tmp_path / "first" / "model"
    smaller = {**TINY["model"], "start": str(start), "start_partly": True, "start_without": ["scoring"]}
    smaller["architecture"] = {
        **TINY["model"]["architecture"],
        "text": {**TINY["model"]["architecture"]["text"], "mlp_width": 16},
    }
    changes: dict[str, Any] = {"data": ONE_STEP, "validation_batches": 0, "optimiser": {"lr": 1e-12}}
    second = train(model=smaller, weights_dtype="float32", **changes)
    before, after = (
        load_model_folder(start)[0].state_dict(),
        load_model_folder(second.model_path)[0].state_dict(),
    )

    def same(name: str) -> bool:
        return torch.allclose(before[name].float(), after[name].float(), atol=1e-6)

    assert same("decoder.query_embedding") and same("text_encoder.token_embedding.weight")
    assert after["text_encoder.blocks.0.mlp.0.weight"].shape[0] == 16
    assert not same("scoring.query_projection.weight")
