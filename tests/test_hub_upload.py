"""A model goes to a repository and comes back, through a Hub on the loopback interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import conceptseg as cs
from conceptseg.checkpoints.model_card import CARD, MADE_BY, model_card
from conceptseg.hub_upload import pull_model, push_model
from conceptseg.models.config import ModelConfig
from tests.hub_server import FakeHub, FakeRepository


@pytest.fixture
def writable(loopback_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.setenv("HF_TOKEN", "may-write")
    loopback_hub.writers = ("may-write",)
    return loopback_hub


def test_a_model_that_was_pushed_loads_by_its_name_and_comes_back(
    writable: FakeHub, tiny_model_folder: Path, tmp_path: Path
) -> None:
    push_model(tiny_model_folder, "me/tiny")
    files = writable.repositories["me/tiny"].files
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", CARD}
    assert cs.load("me/tiny").fingerprint == cs.load(tiny_model_folder).fingerprint
    pulled = pull_model("me/tiny", tmp_path / "pulled")
    assert (pulled / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert not (pulled / "model.safetensors").is_symlink()
    with pytest.raises(cs.OptionError, match="is in use"):
        pull_model("me/tiny", pulled)


def test_a_folder_here_of_the_same_name_is_not_what_is_pulled(
    loopback_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "me" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cs.ModelNotFoundError, match="no repository 'me/tiny'"):
        pull_model("me/tiny", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_an_exported_model_is_pushed_with_its_graphs(writable: FakeHub, tiny_onnx_folder: Path) -> None:
    push_model(tiny_onnx_folder, "me/exported", private=True)
    repository = writable.repositories["me/exported"]
    assert {"vision.onnx", "text.onnx", "exemplar.onnx", "detector.onnx", "config.json"} <= set(
        repository.files
    )
    assert repository.tokens == writable.writers


def test_a_refusal_and_a_wrong_name_are_one_line(loopback_hub: FakeHub, tiny_model_folder: Path) -> None:
    with pytest.raises(cs.ModelNotFoundError, match="does not let this account write me/tiny"):
        push_model(tiny_model_folder, "me/tiny")
    with pytest.raises(cs.OptionError, match="give owner/name"):
        push_model(tiny_model_folder, "tiny")
    with pytest.raises(cs.CheckpointError, match="is no model folder"):
        push_model(tiny_model_folder / "no", "me/tiny")
    loopback_hub.repositories["me/other"] = FakeRepository({"notes.txt": b"no model"})
    with pytest.raises(cs.CheckpointError):
        pull_model("me/other", tiny_model_folder.parent / "pulled")


def test_a_card_has_a_head_that_the_hub_reads_and_says_where_a_model_comes_from() -> None:
    provenance = {
        "name": "mine",
        "licence": "Apache-2.0",
        "data": "nuclei",
        "steps": 60,
        "start": "/home/me/runs/first",
    }
    card = model_card(ModelConfig(provenance=provenance))
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    assert yaml.safe_load(head)["pipeline_tag"] == "image-segmentation"
    for words in ("# mine", "**trained on**: nuclei", "**began with**: first", "**steps**: 60"):
        assert words in text


def test_a_card_of_ones_own_is_left_alone(tiny_segmenter: cs.Segmenter, tmp_path: Path) -> None:
    from conceptseg.checkpoints.folder import save_model_folder

    parts = tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config
    save_model_folder(tmp_path, *parts)
    assert MADE_BY in (tmp_path / CARD).read_text()
    (tmp_path / CARD).write_text("My own words.\n")
    save_model_folder(tmp_path, *parts)
    assert (tmp_path / CARD).read_text() == "My own words.\n"
