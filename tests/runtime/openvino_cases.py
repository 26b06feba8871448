"""An exported model in OpenVINO answers as it does in torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conceptseg as cs

pytest.importorskip("openvino", reason="OpenVINO is not installed")

BOXES = [[10, 10, 40, 40], [50, 20, 80, 50]]
PROMPTS: list[dict[str, Any]] = [
    {"text": ["coin", "red circle", "striped star"]},
    {"boxes": BOXES, "labels": [1, 0]},
    {"text": "coin", "boxes": BOXES[:1]},
]


def results(answer: cs.Result | list[cs.Result]) -> list[cs.Result]:
    return answer if isinstance(answer, list) else [answer]


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_an_openvino_model_answers_as_torch_does(
    prompt: dict[str, Any], tiny_onnx_folder: Path, tiny_segmenter: cs.Segmenter, picture: np.ndarray
) -> None:
    exported = cs.load(tiny_onnx_folder, runtime="openvino")
    ours = results(exported.segment(picture, threshold=0.05, **prompt))
    theirs = results(tiny_segmenter.segment(picture, threshold=0.05, **prompt))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        assert abs(one.presence - other.presence) < 1e-4


def test_in_bfloat16_the_encoders_round_and_what_follows_does_not(
    tiny_onnx_folder: Path, tiny_segmenter: cs.Segmenter, picture: np.ndarray
) -> None:
    rounded = cs.load(tiny_onnx_folder, runtime="openvino", dtype="bfloat16")
    ours = rounded.segment(picture, text="coin", threshold=0, return_raw=True)
    theirs = tiny_segmenter.segment(picture, text="coin", threshold=0, return_raw=True)
    assert isinstance(ours, cs.Result) and isinstance(theirs, cs.Result)
    assert ours.raw is not None and theirs.raw is not None
    apart = (ours.raw.class_logits - theirs.raw.class_logits[-1:]).norm() / theirs.raw.class_logits[-1].norm()
    assert apart < 0.05


def test_what_openvino_cannot_do_is_a_clear_error(
    tiny_onnx_folder: Path, tiny_model_folder: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(cs.OptionError, match="conceptseg export onnx writes one"):
        cs.load(tiny_model_folder, runtime="openvino")
    with pytest.raises(cs.OptionError, match="in OpenVINO an exported model runs on cpu; got device 'cuda'"):
        cs.load(tiny_onnx_folder, device="cuda", runtime="openvino")
    with pytest.raises(cs.OptionError, match="which torch does not run"):
        cs.load(tiny_onnx_folder, runtime="torch")
    with pytest.raises(cs.OptionError, match="unknown runtime 'tensorrt'"):
        cs.load(tiny_onnx_folder, runtime="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(cs.OptionError, match="dtype must be 'auto' or 'float32'"):
        cs.load(tiny_onnx_folder, dtype="float16", runtime="openvino")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_onnx_folder, copy)
    (copy / "vision.onnx").write_bytes(b"no graph")
    with pytest.raises(cs.CheckpointError, match="OpenVINO cannot read .*vision.onnx: [^\n]+$"):
        cs.load(copy, runtime="openvino").segment(picture, text="coin")
