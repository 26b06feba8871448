"""What `load` makes of a model in bfloat16: half the memory, the same answers, and a model to be asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import conceptseg as cs
from conceptseg.checkpoints.checkpoint import build_empty
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.checkpoints.huggingface import HUGGING_FACE, POINTS
from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.checkpoints.official import OFFICIAL
from conceptseg.exemplars.conflict import gradient_conflict
from conceptseg.exemplars.gap_pictures import ShownImage
from conceptseg.segmenter import Segmenter
from tests.checkpoints.foreign_files import write_tokenizer
from tests.checkpoints.test_memory import STACKED, memory_of
from tests.models.tiny import RESOLUTION

BOX = [[10.0, 10.0, 40.0, 30.0]]


@pytest.fixture
def rounded(tiny_model_folder: Path) -> Segmenter:
    return cs.load(tiny_model_folder, device="cpu", dtype="bfloat16")


def test_weights_stored_in_bfloat16_answer_as_autocast_does(
    rounded: Segmenter, tiny_model_folder: Path, picture: np.ndarray
) -> None:
    masters = Segmenter(*load_model_folder(tiny_model_folder), dtype="bfloat16")
    assert rounded.fingerprint == masters.fingerprint
    one, other = (s.segment(picture, text="coin", boxes=BOX, threshold=0) for s in (rounded, masters))
    for name in ("masks", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.presence_logit == other.presence_logit
    kinds = {p.dtype for p in rounded.detector.parameters()}
    assert kinds == {torch.float32, torch.bfloat16}
    assert all(p.requires_grad == (p.dtype == torch.float32) for p in rounded.detector.parameters())


def test_float32_and_auto_keep_every_weight_as_it_is(tiny_model_folder: Path) -> None:
    for dtype in ("float32", "auto", "float16"):
        segmenter = cs.load(tiny_model_folder, device="cpu", dtype=dtype)
        assert {p.dtype for p in segmenter.detector.parameters()} == {torch.float32}


def test_large_models_are_rounded_by_auto_where_the_processor_has_bfloat16(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conceptseg.device.LARGE", 1000)
    monkeypatch.setattr("conceptseg.device.has_bfloat16_instructions", lambda: True)
    segmenter = cs.load(tiny_model_folder, device="cpu")
    assert segmenter.dtype == torch.bfloat16
    assert torch.bfloat16 in {p.dtype for p in segmenter.detector.parameters()}


def test_rounded_weights_are_not_run_in_another_number_type(rounded: Segmenter) -> None:
    parts = rounded.detector, rounded.tokenizer, rounded.config
    for dtype in ("float32", "auto", "float16"):
        with pytest.raises(cs.OptionError, match="were loaded in bfloat16"):
            Segmenter(*parts, dtype=dtype)
    assert Segmenter(*parts, dtype="bfloat16").dtype == torch.bfloat16


def test_a_model_that_is_only_asked_has_nothing_to_train(rounded: Segmenter, tiny_model_folder: Path) -> None:
    with pytest.raises(cs.OptionError, match="loaded in bfloat16 and can only be asked; load it with dtype="):
        rounded.trainable()
    whole = cs.load(tiny_model_folder, device="cpu", dtype="float32")
    assert whole.trainable() is whole.detector


def test_what_needs_the_weights_themselves_is_refused(
    rounded: Segmenter, tmp_path: Path, picture: np.ndarray
) -> None:
    from conceptseg.export.onnx_export import export_onnx

    parts = rounded.detector, rounded.tokenizer, rounded.config
    for dtype in (None, torch.float32, torch.float16):
        with pytest.raises(cs.ConceptSegError, match="load it with dtype='float32'"):
            save_model_folder(tmp_path / "saved", *parts, dtype=dtype)
    with pytest.raises(cs.OptionError, match="load it with dtype='float32'"):
        export_onnx(rounded, tmp_path / "exported")
    with pytest.raises(cs.OptionError, match="load it with dtype='float32'"):
        gradient_conflict(rounded, [ShownImage(picture, ())], [])
    assert not (tmp_path / "saved").exists() and not (tmp_path / "exported").exists()


def test_saved_in_bfloat16_nothing_more_is_lost(
    rounded: Segmenter, tiny_segmenter: Segmenter, tmp_path: Path
) -> None:
    for name, segmenter in (("one", rounded), ("other", tiny_segmenter)):
        parts = segmenter.detector, segmenter.tokenizer, segmenter.config
        save_model_folder(tmp_path / name, *parts, dtype=torch.bfloat16)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("layout", ["model.safetensors", "sam3.pt"])
def test_pages_of_the_file_do_not_add_to_rounded_weights(tmp_path: Path, layout: str) -> None:
    shapes = {name: value.shape for name, value in build_empty(STACKED).state_dict().items()}
    ours = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    if layout == "sam3.pt":
        theirs = OFFICIAL.back(ours)[0]
        torch.save({name: value.clone() for name, value in theirs.items()}, tmp_path / layout)
        model = tmp_path / layout
    else:
        theirs = HUGGING_FACE.back({n: v for n, v in ours.items() if POINTS not in n})[0]
        save_file({name: value.clone() for name, value in theirs.items()}, tmp_path / layout)
        (tmp_path / "config.json").write_text(json.dumps(config_to_huggingface(STACKED, RESOLUTION)))
        model = tmp_path
    write_tokenizer(tmp_path)
    result = memory_of(model, "load_rounded")
    assert 65_000_000 < result["size"] < 75_000_000
    assert result["peak"] <= 1.3 * result["size"]
