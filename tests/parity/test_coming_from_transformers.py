"""The two blocks of `docs/from/transformers.md` ask the same, and are answered alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from conceptseg.models.config import PreprocessingConfig, TextConfig
from tests.docs.test_readme import ROOT, blocks_of
from tests.parity.cases import tiny_pair
from tests.parity.test_written_folders import written

pytest.importorskip("transformers")

SIDE = 280  # of the model and of the picture, so that both see the same pixels
SURE = 9.0  # added to the presence logit, so that objects pass the threshold of the page


def write_model(folder: Path) -> None:
    """A small model of random weights, as long in its phrases as their processor pads."""
    text = TextConfig(context_length=32, width=48, depth=2, heads=4, mlp_width=80)
    made = written(
        folder / "made",
        dataclasses.replace(tiny_pair()[1].config, text=text),
        32,
        PreprocessingConfig(resolution=SIDE),
    )
    weights = load_file(made / "model.safetensors")
    weights["detr_decoder.presence_head.layer3.bias"] += SURE
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    made.rename(folder / "sam3")


def test_both_blocks_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    with Image.open(ROOT / "src" / "conceptseg" / "assets" / "coins.png") as coins:
        coins.crop((0, 0, SIDE, SIDE)).save("coins.png")
    theirs, ours = (run(block.code) for block in blocks_of(ROOT / "docs" / "from" / "transformers.md"))
    assert len(theirs["scores"]) == len(ours["scores"]) > 2
    for name, allowed in (("scores", 1e-4), ("boxes", 0.01)):
        np.testing.assert_allclose(ours[name], theirs[name], atol=allowed)
    assert (ours["masks"] != theirs["masks"].astype(bool)).mean() < 1e-3


def run(code: str) -> dict[str, Any]:
    """What a block leaves under the names masks, boxes and scores: arrays, objects from left to right."""
    names: dict[str, Any] = {}
    exec(code, names)
    order = np.argsort(np.asarray(names["boxes"])[:, 0])
    return {name: np.asarray(names[name])[order] for name in ("masks", "boxes", "scores")}
