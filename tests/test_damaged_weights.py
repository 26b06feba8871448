"""A weight that is no number: no way of asking gives an answer, and nothing is exported."""

import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.checkpoint import check_numbers
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.errors import CheckpointError
from conceptseg.export.onnx_export import export_onnx


def damaged(make_segmenter, weight, value=float("nan")):
    segmenter = make_segmenter()
    with torch.no_grad():
        segmenter.detector.get_parameter(weight).view(-1)[0] = value
    return segmenter


@pytest.mark.parametrize(
    ("weight", "asked", "words"),
    [
        ("decoder.presence_token", {}, "presence logits|class logits"),
        ("scoring.prompt_projection.weight", {}, "class logits"),
        ("decoder.box_head.layers.2.bias", {}, "boxes|class logits"),
        ("mask_head.instance_projection.weight", {}, "mask logits"),
        ("exemplar_encoder.box_features.weight", {"boxes": [0, 0, 30, 30]}, "class logits"),
        ("vision_encoder.stem.0.weight", {}, "image features"),
    ],
)
def test_weights_that_are_no_numbers_give_an_error_and_no_answer(
    make_segmenter, picture, weight, asked, words
):
    segmenter = damaged(make_segmenter, weight)
    with pytest.raises(CheckpointError, match=f"the ({words}) of this model are not finite numbers"):
        segmenter.segment(picture, text="coin", threshold=0, **asked)


def test_neither_an_encoded_image_nor_a_concept_is_made(make_segmenter, picture):
    segmenter = damaged(make_segmenter, "vision_encoder.stem.0.weight")
    with pytest.raises(CheckpointError, match="the image features of this model are not finite"):
        segmenter.encode(picture)
    segmenter = damaged(make_segmenter, "exemplar_encoder.box_features.weight")
    with pytest.raises(CheckpointError, match="the exemplar tokens of this model are not finite"):
        segmenter.exemplar(picture, [[5, 5, 30, 25]])


def test_the_official_api_gives_none(make_segmenter, picture):
    processor = cs.Sam3Processor(damaged(make_segmenter, "scoring.prompt_projection.weight"))
    with pytest.raises(CheckpointError, match="the scores of this model are not finite"):
        processor.set_text_prompt("coin", processor.set_image(picture))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_folder_does_not_load(make_segmenter, tmp_path, value, dtype):
    """An infinite weight here would be answered with: class logits have a limit."""
    given = damaged(make_segmenter, "scoring.prompt_projection.weight", value)
    save_model_folder(tmp_path, given.detector, given.tokenizer, given.config)
    with pytest.raises(CheckpointError, match=r"are damaged: scoring.prompt_projection.weight hold values"):
        cs.load(tmp_path, device="cpu", dtype=dtype)


def test_weights_whose_sum_is_too_large_are_numbers_all_the_same():
    state = {"weight": torch.full((4,), 3e38), "steps": torch.tensor(3)}
    assert state["weight"].sum().isinf()
    check_numbers(state, "here")


@pytest.mark.parametrize("check", [True, False])
def test_nothing_is_exported(make_segmenter, tmp_path, check):
    segmenter = damaged(make_segmenter, "mask_head.instance_projection.weight")
    with pytest.raises(CheckpointError, match="this model are damaged: mask_head.instance_projection.weight"):
        export_onnx(segmenter, tmp_path / "out", check=check)
    assert list(tmp_path.iterdir()) == []
