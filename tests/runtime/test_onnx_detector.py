"""One exported model, asked everything that a torch model can be asked."""

import json
import shutil

import numpy as np
import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.config_file import is_onnx_folder
from conceptseg.checkpoints.onnx_folder import read_onnx_config
from conceptseg.errors import OptionError
from conceptseg.runtime.onnx_detector import open_session

BOX = [[10, 10, 40, 40]]
BOXES = [[10, 10, 40, 40], [50, 20, 80, 50]]


@pytest.fixture(scope="module")
def exported(tiny_onnx_folder):
    return cs.load(tiny_onnx_folder)


def assert_same(ours, theirs):
    for a, b in zip(*(x if isinstance(x, list) else [x] for x in (ours, theirs)), strict=True):
        assert a.phrase == b.phrase
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        assert (a.masks != b.masks).mean() < 1e-4
        assert abs(a.presence - b.presence) < 1e-5


@pytest.mark.parametrize(
    "prompt",
    [
        {"text": "coin"},
        {"text": ["coin", "red circle", "striped star"]},
        {"boxes": BOX},
        {"boxes": BOXES, "labels": [1, 0]},
        {"text": "coin", "boxes": BOXES, "labels": [0, 1]},
        {"text": ["coin", "red circle"], "boxes": BOX},
    ],
    ids=str,
)
def test_an_onnx_folder_answers_as_torch_does(exported, tiny_segmenter, picture, prompt):
    assert_same(
        exported.segment(picture, threshold=0.05, **prompt),
        tiny_segmenter.segment(picture, threshold=0.05, **prompt),
    )


def test_a_concept_from_another_image_carries_over_and_between_torch_and_onnx(
    exported, tiny_segmenter, picture, tmp_path
):
    other = picture[::-1].copy()
    kinds = [segmenter.exemplar(other, BOXES, [1, 0]) for segmenter in (exported, tiny_segmenter)]
    torch.testing.assert_close(kinds[0].tokens, kinds[1].tokens, atol=1e-4, rtol=0)
    kinds[0].save(tmp_path / "kind.concept.safetensors")
    saved = cs.Exemplar.load(tmp_path / "kind.concept.safetensors")
    expected = tiny_segmenter.segment(picture, exemplar=kinds[1], threshold=0.05)
    assert_same(exported.segment(picture, exemplar=kinds[1], threshold=0.05), expected)
    assert_same(tiny_segmenter.segment(picture, exemplar=saved, threshold=0.05), expected)
    assert_same(
        exported.segment(picture, text="coin", exemplar=kinds[0] + kinds[1], boxes=BOX, threshold=0.05),
        tiny_segmenter.segment(picture, text="coin", exemplar=kinds[1] + kinds[1], boxes=BOX, threshold=0.05),
    )


def test_more_images_and_phrases_than_were_traced_run_in_one_batch(exported, tiny_segmenter, picture):
    images = [picture, picture[::-1].copy(), picture[:, ::-1].copy()]
    phrases = ["coin", "red circle", "star", "striped coin", "circle", "red", "key"]
    for ours, theirs in zip(
        *(
            s.segment_many(images, text=phrases, boxes=BOX, threshold=0.05)
            for s in (exported, tiny_segmenter)
        ),
        strict=True,
    ):
        assert_same(ours, theirs)


def test_raw_outputs_and_dedupe_work_without_the_torch_network(exported, tiny_segmenter, picture):
    ours, theirs = (
        s.segment(picture, text="coin", threshold=0.05, dedupe="nms", return_raw=True)
        for s in (exported, tiny_segmenter)
    )
    assert_same(ours, theirs)
    torch.testing.assert_close(ours.raw.mask_logits, theirs.raw.mask_logits, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.raw.class_logits, theirs.raw.class_logits[-1:], atol=1e-4, rtol=0)


def test_the_official_api_runs_an_onnx_folder(exported, tiny_segmenter, picture):
    states = []
    for segmenter in (exported, tiny_segmenter):
        processor = cs.Sam3Processor(segmenter, confidence_threshold=0.05)
        state = processor.set_text_prompt("coin", processor.set_image(picture))
        states.append(processor.add_geometric_prompt([0.3, 0.4, 0.3, 0.4], True, state))
    torch.testing.assert_close(states[0]["scores"], states[1]["scores"], atol=1e-5, rtol=0)
    with pytest.raises(cs.PromptError, match="point prompts are not in exported models"):
        processor = cs.Sam3Processor(exported)
        processor.add_point_prompt([20, 20], True, processor.set_image(picture))


def test_another_program_may_run_a_graph(exported, tiny_onnx_folder, picture):
    class Noting:
        def __init__(self, session):
            self.session, self.calls = session, 0

        def get_inputs(self):
            return self.session.get_inputs()

        def run(self, outputs, inputs):
            self.calls += 1
            return self.session.run(outputs, inputs)

    segmenter = cs.load(tiny_onnx_folder)
    other = Noting(open_session(tiny_onnx_folder / "detector.onnx"))
    segmenter.network.run_with({"detector": other})
    asked = segmenter.segment(picture, text="coin", threshold=0.05)
    assert_same(asked, exported.segment(picture, text="coin", threshold=0.05))
    assert other.calls == 1
    with pytest.raises(OptionError, match="no graph 'decoder'; the graphs are vision, text"):
        segmenter.network.run_with({"decoder": other})


def test_what_an_exported_model_cannot_do_is_a_clear_error(exported, tiny_onnx_folder):
    with pytest.raises(cs.OptionError, match="was exported for 96 px; for 128 px export the model again"):
        cs.load(tiny_onnx_folder, resolution=128)
    with pytest.raises(cs.OptionError, match="takes and gives float32"):
        cs.load(tiny_onnx_folder, dtype="bfloat16")
    with pytest.raises(cs.OptionError, match="has no CUDAExecutionProvider"):
        cs.load(tiny_onnx_folder, device="cuda")
    with pytest.raises(cs.OptionError, match="runs on cpu or cuda; got device 'mps'"):
        cs.load(tiny_onnx_folder, device="mps")
    with pytest.raises(cs.OptionError, match="exported to ONNX and can only be asked"):
        _ = exported.detector


def test_a_damaged_or_incomplete_folder_is_named(tiny_onnx_folder, picture, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_onnx_folder, copy)
    (copy / "vision.onnx").write_bytes(b"no graph")
    with pytest.raises(cs.CheckpointError, match="ONNX Runtime cannot read .*vision.onnx"):
        cs.load(copy).segment(picture, text="coin")
    (copy / "text.onnx").unlink()
    with pytest.raises(cs.CheckpointError, match=r"it has no text.onnx"):
        cs.load(copy)


def test_the_config_tells_resolution_and_agreement(tiny_onnx_folder, tiny_segmenter, tiny_model_folder):
    assert is_onnx_folder(tiny_onnx_folder) and not is_onnx_folder(tiny_model_folder)
    config, info = read_onnx_config(tiny_onnx_folder)
    assert config == tiny_segmenter.config
    assert (info.resolution, info.opset, info.quantize) == (96, 18, "none")
    assert info.fingerprint == tiny_segmenter.fingerprint
    assert 0 < max(info.checked["detector"].values()) < 1e-3


def test_a_config_of_another_version_is_refused(tiny_onnx_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_onnx_folder, copy)
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(cs.CheckpointError, match="export the model again"):
        cs.load(copy)
    (copy / "config.json").write_text(json.dumps({**values, "onnx": {"resolution": "wide"}}))
    with pytest.raises(cs.CheckpointError, match="onnx.resolution"):
        cs.load(copy)
