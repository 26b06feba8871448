"""A study is about certain weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conceptseg.errors import CheckpointError
from conceptseg.study.pinned import check_weights, keep_to_weights, kept_weights, load_pinned, weights_digest


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def change_presence(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "presence_token" in name)
    weights[name] = weights[name] + 0.01
    save_file(weights, file)


def test_other_weights_are_refused_even_where_only_presence_differs(folder: Path) -> None:
    pinned = weights_digest(folder)
    assert check_weights(folder, pinned) == pinned and load_pinned(folder, pinned).dtype == torch.float32
    change_presence(folder)
    with pytest.raises(CheckpointError, match=f"but this study is about {pinned}.*--any-weights"):
        load_pinned(folder, pinned)
    assert check_weights(folder, None) == weights_digest(folder) != pinned


def test_a_study_does_not_go_on_with_weights_that_have_changed(folder: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    assert kept_weights(study) is None
    begun = keep_to_weights(study, folder)
    assert keep_to_weights(study, folder) == kept_weights(study) == begun == weights_digest(folder)
    change_presence(folder)
    with pytest.raises(CheckpointError, match=f"was begun with the weights {begun}, and .* has .* now"):
        keep_to_weights(study, folder)
    assert kept_weights(study) == begun


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        weights_digest(tmp_path)
