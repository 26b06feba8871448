"""Which files of a repository are fetched."""

from __future__ import annotations

import pytest

from conceptseg.errors import CheckpointError
from conceptseg.hub_files import ModelFiles, is_sam3_config, model_files, single_checkpoints

OWN = {"format": "conceptseg"}
SAM3 = {"model_type": "sam3"}
FOLDER = ["config.json", "model.safetensors", "tokenizer.json"]


def test_our_folder_brings_what_a_conversion_carries_along() -> None:
    assert model_files("a/b", [*FOLDER, "sam3.pt", ".gitattributes"], OWN) == ModelFiles(tuple(FOLDER))
    assert "unused.safetensors" in model_files("a/b", [*FOLDER, "unused.safetensors"], OWN).names
    with pytest.raises(
        CheckpointError, match="repository a/b is no complete model folder: it lacks tokenizer"
    ):
        model_files("a/b", FOLDER[:2], OWN)


def test_a_transformers_folder_comes_with_its_tokenizer_but_without_other_weights() -> None:
    there = [*FOLDER, "merges.txt", "vocab.json", "processor_config.json", "sam3.pt", "flax_model.msgpack"]
    chosen = model_files("a/b", there, SAM3)
    assert chosen.checkpoint is None
    assert set(chosen.names) == set(there) - {"sam3.pt", "flax_model.msgpack"}


def test_all_shards_are_fetched_or_the_missing_are_named() -> None:
    shards = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    index = "model.safetensors.index.json"
    assert model_files("a/b", ["config.json", index, *shards], SAM3).names == ("config.json", index, *shards)
    with pytest.raises(CheckpointError, match="a/b has 2 of 3 shards of model.safetensors"):
        model_files("a/b", ["config.json", index, *shards[1:]], SAM3)
    with pytest.raises(CheckpointError, match="a/b has 0 shards"):
        model_files("a/b", ["config.json", index], SAM3)


def test_a_checkpoint_comes_with_the_tokenizer_beside_it() -> None:
    there = ["s/model.pt", "s/merges.txt", "s/vocab.json", "tokenizer.json", "README.md"]
    chosen = model_files("a/b", there, None)
    assert chosen == ModelFiles(("s/vocab.json", "s/merges.txt", "s/model.pt"), "s/model.pt")


def test_a_config_of_something_else_does_not_hide_a_checkpoint() -> None:
    assert model_files("a/b", ["config.json", "sam3.1.pt"], {"model_type": "?"}).checkpoint == "sam3.1.pt"
    assert model_files("a/b", ["config.json", "sam3.pt"], SAM3).checkpoint == "sam3.pt"
    with pytest.raises(CheckpointError, match="is in no layout that this version reads"):
        model_files("a/b", FOLDER, {"model_type": "bert"})


def test_shards_and_what_a_trainer_leaves_are_no_checkpoints() -> None:
    left = [
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "unused.safetensors",
        "a-00001-of-00002.safetensors",
    ]
    assert single_checkpoints([*left, "b.pth", "a.pt", "notes.txt"], has_config=False) == ["a.pt", "b.pth"]
    assert single_checkpoints(["model.safetensors"], has_config=False) == ["model.safetensors"]
    assert single_checkpoints(["model.safetensors"], has_config=True) == []


def test_many_checkpoints_are_not_all_named() -> None:
    with pytest.raises(CheckpointError, match=r"name one of them as a/b:00.pt.*11.pt and 8 more$"):
        model_files("a/b", [f"{number:02}.pt" for number in range(20)], None)
    with pytest.raises(CheckpointError, match=r"a/b:S.pt; its checkpoints are S.pt, T.pt$"):
        model_files("a/b", ["S.pt", "T.pt"], None)
    with pytest.raises(CheckpointError, match="it has no checkpoints"):
        model_files("a/b", ["README.md"], None, checkpoint="x.pt")


def test_a_tracker_alone_is_no_detector() -> None:
    assert [is_sam3_config({"model_type": kind}) for kind in ("sam3", "sam3_video", "sam3_lite_text")] == [
        True
    ] * 3
    assert not any(is_sam3_config({"model_type": kind}) for kind in ("sam3_tracker_video", "sam2", None, 3))
