import re
import shutil

import numpy as np
import pytest

import conceptseg as cs
from conceptseg import hub
from conceptseg.hub_download import open_repository
from tests.hub_server import FakeRepository


def test_a_model_folder_loads_and_answers_as_before_it_was_saved(tiny_model_folder, tiny_segmenter, picture):
    for name in (tiny_model_folder, str(tiny_model_folder)):
        segmenter = cs.load(name, device="cpu")
        assert segmenter.fingerprint == tiny_segmenter.fingerprint and segmenter.resolution == 96
        a, b = (s.segment(picture, text="coin", threshold=0) for s in (segmenter, tiny_segmenter))
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
    assert cs.load(tiny_model_folder, device="cpu", dtype="bfloat16", resolution=128).resolution == 128


def test_an_embedded_model_is_found_by_its_name(tiny_model_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_model_folder, tmp_path / "nano")
    (tmp_path / "unfinished").mkdir()
    monkeypatch.setattr(hub, "_embedded_folder", lambda: tmp_path)
    assert cs.available_models() == ["nano"]
    assert cs.load("nano", device="cpu").resolution == 96
    with pytest.raises(cs.ModelNotFoundError, match="unknown model 'nanno'; did you mean 'nano'?"):
        cs.load("nanno")


def test_unknown_models_say_what_can_be_loaded(tmp_path):
    for name, message in (
        ("no-such-thing", "unknown model 'no-such-thing'"),
        ("", "unknown model ''"),
        ("x" * 5000, "unknown model 'xxx"),
        (str(tmp_path / "gone"), "there is no such file or folder"),
        ("./gone", "there is no such file or folder"),
        ("weights/sam3.pt", "there is no such file or folder"),
        (tmp_path / "gone", "there is no such file or folder"),
    ):
        with pytest.raises(cs.ModelNotFoundError, match=message) as caught:
            cs.load(name)
        assert "the path of a model folder, or a Hugging Face repository" in str(caught.value)
        assert isinstance(caught.value, LookupError)
    with pytest.raises(cs.OptionError, match="named by text or a path; got int"):
        cs.load(3)


def test_other_layouts_and_damaged_folders_are_checkpoint_errors(tiny_model_folder, tmp_path):
    (tmp_path / "sam3.pt").write_bytes(b"weights")
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "sam3.pt", tmp_path / "notes.txt", tmp_path / "empty"):
        with pytest.raises(cs.CheckpointError, match=re.escape(str(path))):
            cs.load(path)
    for missing in ("config.json", "model.safetensors", "tokenizer.json"):
        folder = tmp_path / f"without-{missing}"
        shutil.copytree(tiny_model_folder, folder)
        (folder / missing).unlink()
        with pytest.raises(cs.CheckpointError, match=missing):
            cs.load(folder)
    cut = tmp_path / "cut"
    shutil.copytree(tiny_model_folder, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(cs.CheckpointError, match="cannot read .*model.safetensors"):
        cs.load(cut)


def test_impossible_options_are_refused_before_the_weights_are_read(tmp_path):
    with pytest.raises(cs.OptionError, match="unknown device"):
        cs.load(tmp_path / "gone", device="warp")
    with pytest.raises(cs.OptionError, match="unknown dtype"):
        cs.load(tmp_path / "gone", dtype="int3")


def test_impossible_options_are_refused_before_anything_is_fetched(hub_with_tiny):
    with pytest.raises(cs.OptionError, match="unknown device"):
        cs.load("me/tiny", device="warp")
    with pytest.raises(cs.OptionError, match="unknown dtype"):
        cs.load("me/tiny", dtype="int3")
    assert not hub_with_tiny.ranges("model.safetensors")


@pytest.fixture
def hub_with_tiny(loopback_hub, tiny_model_folder):
    """The tiny model as "me/tiny", with a readme that nobody needs."""
    names = ("config.json", "model.safetensors", "tokenizer.json")
    content = {name: (tiny_model_folder / name).read_bytes() for name in names}
    loopback_hub.repositories["me/tiny"] = FakeRepository({**content, "README.md": b"# Tiny"})
    return loopback_hub


def go_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_model_folder_on_the_hub_loads_then_and_later_without_a_connection(hub_with_tiny, monkeypatch):
    commit = hub_with_tiny.repositories["me/tiny"].commit
    assert cs.load("me/tiny", device="cpu").resolution == 96
    assert cs.load(f"me/tiny@{commit}", device="cpu").resolution == 96
    assert hub_with_tiny.ranges("model.safetensors") == [None] and not hub_with_tiny.ranges("README.md")
    go_offline(monkeypatch)
    for name in ("me/tiny", "me/tiny@main", f"me/tiny@{commit}"):
        assert hub.find_model(name).name == commit
    with pytest.raises(cs.ModelNotFoundError, match="no copy of me/tiny@other"):
        cs.load("me/tiny@other")


def test_without_a_connection_the_cached_models_are_named(hub_with_tiny, monkeypatch):
    hub_with_tiny.repositories["me/students"] = FakeRepository({"a.pt": b"a", "b.pt": b"b"})
    hub_with_tiny.repositories["me/bert"] = FakeRepository(
        {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"bert"}
    )
    for name in ("me/tiny", "me/students:a.pt", "me/students:b.pt"):
        hub.find_model(name)
    open_repository("me/bert").fetch(["config.json", "model.safetensors"])
    go_offline(monkeypatch)
    with pytest.raises(cs.ModelNotFoundError) as caught:
        cs.load("me/gone")
    assert str(caught.value).startswith(
        "HF_HUB_OFFLINE is set, and the cache holds no copy of me/gone; nor is there a folder 'me/gone' "
        "here. In the cache are me/students:a.pt, me/students:b.pt, me/tiny. A model is an embedded one"
    )


def test_with_an_empty_cache_and_no_connection_that_is_said(loopback_hub, monkeypatch):
    go_offline(monkeypatch)
    with pytest.raises(cs.ModelNotFoundError, match="The cache holds no model. A model is an embedded one"):
        cs.load("me/gone")


def test_a_missing_repository_may_be_a_misspelt_folder(loopback_hub):
    with pytest.raises(cs.ModelNotFoundError, match="and there is no folder 'misspelt/nano' here"):
        cs.load("misspelt/nano")


def test_restricted_repositories_pass_on_how_to_get_access(hub_with_tiny):
    hub_with_tiny.repositories["me/tiny"].tokens = ("hf_granted",)
    with pytest.raises(cs.ModelNotFoundError, match="ask for it on https://huggingface.co/me/tiny"):
        cs.load("me/tiny")


def test_a_transformers_folder_is_fetched_whole_and_alone(loopback_hub):
    names = ("config.json", "model.safetensors", "tokenizer.json", "sam3.pt", "README.md")
    repo = FakeRepository({name: b"" for name in names})
    repo.files["config.json"] = b'{"model_type": "sam3_video"}'
    loopback_hub.repositories["facebook/sam3"] = repo
    folder = hub.find_model("facebook/sam3")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert hub.find_model("facebook/sam3:sam3.pt") == folder / "sam3.pt"


def test_a_single_checkpoint_needs_no_name_and_one_of_several_does(loopback_hub):
    lone = loopback_hub.repositories["me/lone"] = FakeRepository({"sam3.pt": b"weights", "README.md": b""})
    assert hub.find_model("me/lone").read_bytes() == b"weights"
    lone.files["sub/other.pth"] = b"other"
    with pytest.raises(cs.CheckpointError, match="2 checkpoints; name one of them as me/lone:sam3.pt"):
        hub.find_model("me/lone")
    assert hub.find_model(f"me/lone@{lone.commit}:sub/other.pth").read_bytes() == b"other"
    with pytest.raises(
        cs.CheckpointError, match="no file 'no.pt'; its checkpoints are sam3.pt, sub/other.pth"
    ):
        hub.find_model("me/lone:no.pt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b'{"model_type": "bert"}', "is in no layout that this version reads"),
        (b'{"format": "conceptseg", "version": 99}', "version 99"),
        (b"[]", "it holds a list"),
        (b"{", "cannot read .*config.json"),
    ],
)
def test_a_repository_is_refused_by_its_config_before_its_weights_are_fetched(loopback_hub, config, message):
    loopback_hub.repositories["me/foreign"] = FakeRepository(
        {"config.json": config, "model.safetensors": b"", "tokenizer.json": b""}
    )
    with pytest.raises(cs.CheckpointError, match=message):
        cs.load("me/foreign")
    assert not loopback_hub.ranges("model.safetensors")


def test_an_incomplete_copy_in_the_cache_is_told_from_a_wrong_repository(hub_with_tiny, monkeypatch):
    open_repository("me/tiny").fetch(["config.json", "tokenizer.json"])
    go_offline(monkeypatch)
    with pytest.raises(cs.CheckpointError, match="lacks model.safetensors. This is the copy in the cache"):
        cs.load("me/tiny")
