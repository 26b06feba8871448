"""A weight that is no number: no way of asking gives an answer, and nothing is exported."""

import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.errors import CheckpointError, ExportError
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_folder_loads_and_answers_nothing(make_segmenter, picture, tmp_path, value):
    given = damaged(make_segmenter, "scoring.prompt_projection.weight", value)
    save_model_folder(tmp_path, given.detector, given.tokenizer, given.config)
    segmenter = cs.load(tmp_path, device="cpu")
    with pytest.raises(CheckpointError, match="class logits"):
        segmenter.segment(picture, text="coin")
    with pytest.raises(CheckpointError, match="class logits"):
        next(segmenter.segment_many([picture], text="coin"))
    processor = cs.Sam3Processor(segmenter)
    with pytest.raises(CheckpointError, match="not finite"):
        processor.set_text_prompt("coin", processor.set_image(picture))


@pytest.mark.parametrize("check", [True, False])
def test_nothing_is_exported(make_segmenter, tmp_path, check):
    segmenter = damaged(make_segmenter, "mask_head.instance_projection.weight")
    with pytest.raises(ExportError, match=r"1 weights .* \(mask_head.instance_projection.weight\)"):
        export_onnx(segmenter, tmp_path / "out", check=check)
    assert list(tmp_path.iterdir()) == []
