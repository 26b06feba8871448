import json
import re
import shutil

import numpy as np
import pytest

import conceptseg as cs
from conceptseg import hub


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
    (tmp_path / "empty").mkdir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text(json.dumps({"model_type": "sam3"}))
    (foreign / "model.safetensors").touch()
    for path in (tmp_path / "sam3.pt", tmp_path / "empty", foreign):
        with pytest.raises(
            cs.CheckpointError, match=f"{re.escape(str(path))} is in no layout that this version reads"
        ):
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


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """An empty cache and no network: what HF_HOME and HF_HUB_OFFLINE=1 give a new process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def cache(folder, repo):
    """Where huggingface_hub keeps the files of the main branch of a repository."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = folder / f"models--{repo.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    return cached / "snapshots" / commit


def test_a_hub_repository_is_read_from_the_cache(tiny_model_folder, offline_hub):
    shutil.copytree(tiny_model_folder, cache(offline_hub, "me/tiny"), dirs_exist_ok=True)
    assert cs.load("me/tiny", device="cpu").resolution == 96
    assert cs.load("me/tiny@main", device="cpu").resolution == 96
    with pytest.raises(cs.ModelNotFoundError, match="me/tiny"):
        cs.load("me/tiny@other")


def test_a_hub_repository_in_another_layout_is_refused_by_its_config(offline_hub):
    (cache(offline_hub, "me/foreign") / "config.json").write_text('{"model_type": "sam3"}')
    with pytest.raises(cs.CheckpointError, match="repository me/foreign is in no layout"):
        cs.load("me/foreign")


def test_a_hub_repository_that_cannot_be_reached_is_named(offline_hub):
    with pytest.raises(cs.ModelNotFoundError, match="no folder 'me/gone' here, and the Hugging Face"):
        cs.load("me/gone")
