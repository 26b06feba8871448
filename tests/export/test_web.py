"""The example for ONNX Runtime Web gives the masks that torch gives; needs node and `npm install` there."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from conceptseg.images import load_image, model_input
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.postprocess import windows_around
from conceptseg.prompts import VISUAL, check_boxes

WEB = Path(__file__).parents[2] / "examples" / "web"
BOXES = [[10, 10, 40, 40], [50, 20, 80, 50]]
PROMPTS = (("coin", [], []), (VISUAL, BOXES[:1], [1]), ("red circle", BOXES, [1, 0]))

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (WEB / "node_modules" / "onnxruntime-web").is_dir(),
    reason="needs node, and `npm install` in examples/web",
)


def ask_node(folder, segmenter, picture, scratch, **options):
    settings = segmenter.config.preprocessing
    loaded = load_image(picture)
    pixels = model_input(loaded.pixels, segmenter.resolution, settings.mean, settings.std)
    (scratch / "pixels.bin").write_bytes(pixels.numpy().tobytes())
    prompts = []
    for phrase, boxes, labels in PROMPTS:
        shown = check_boxes(boxes, labels or None, loaded.size_hw)
        prompts.append(
            {
                "tokenIds": segmenter.tokenizer([phrase])[0].tolist(),
                "boxes": shown.to_model().boxes_cxcywh[0].tolist() if shown else [],
                "labels": labels,
                **options,
            }
        )
    request = {"pixels": "pixels.bin", "prompts": prompts}
    (scratch / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        ["node", str(WEB / "segment.mjs"), str(folder), str(scratch / "request.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_onnx_runtime_web_gives_the_masks_of_torch(tiny_onnx_folder, tiny_segmenter, picture, tmp_path):
    answers = ask_node(tiny_onnx_folder, tiny_segmenter, picture, tmp_path, threshold=0.1)
    for (phrase, boxes, labels), answer in zip(PROMPTS, answers, strict=True):
        asked = {"boxes": boxes, "labels": labels} if boxes else {}
        text = None if phrase == VISUAL else phrase
        ours = tiny_segmenter.segment(picture, text=text, threshold=0.1, return_raw=True, **asked)
        assert len(ours) == len(answer["scores"]) > 0
        np.testing.assert_allclose(answer["scores"], ours.scores, atol=1e-4)
        assert answer["presence"] == pytest.approx(ours.presence, abs=1e-4)
        logits = ours.raw.class_logits[-1, :, 0]
        best = torch.argsort(logits, descending=True)[: len(ours)]
        masks = (ours.raw.mask_logits[0, best] > 0).numpy()
        theirs = np.array([[pixel == "1" for pixel in mask] for mask in answer["masks"]])
        assert answer["maskSize"] == list(masks.shape[1:])
        assert (theirs.reshape(masks.shape) != masks).mean() < 1e-3


@pytest.mark.parametrize("mode", ["nms", "containment"])
def test_onnx_runtime_web_drops_the_repeats_that_torch_drops(
    tiny_onnx_folder, tiny_segmenter, picture, tmp_path, mode
):
    answers = ask_node(tiny_onnx_folder, tiny_segmenter, picture, tmp_path, threshold=0, dedupe=mode)
    every = ask_node(tiny_onnx_folder, tiny_segmenter, picture, tmp_path, threshold=0)
    ours = tiny_segmenter.segment(picture, text="coin", threshold=0, dedupe=mode)
    assert len(answers[0]["scores"]) == len(ours) < len(every[0]["scores"])
    np.testing.assert_allclose(answers[0]["scores"], ours.scores, atol=1e-4)


def test_onnx_runtime_web_cuts_the_masks_that_the_model_wants_cut(
    tiny_onnx_folder, tiny_segmenter, picture, tmp_path
):
    folder = shutil.copytree(tiny_onnx_folder, tmp_path / "cut")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "mask_margin": 0.1}))
    whole, _, _ = ask_node(tiny_onnx_folder, tiny_segmenter, picture, tmp_path, threshold=0.1)
    answer, _, _ = ask_node(folder, tiny_segmenter, picture, tmp_path, threshold=0.1)
    height, width = answer["maskSize"]
    before, after = (
        np.array([[pixel == "1" for pixel in mask] for mask in it["masks"]]).reshape(-1, height, width)
        for it in (whole, answer)
    )
    boxes = cxcywh_to_xyxy(torch.tensor(answer["boxes"])) * torch.tensor([width, height, width, height])
    assert before.sum() > after.sum() > 0
    for mask, (left, top, right, bottom) in zip(
        before, windows_around(boxes.numpy(), 0.1, (height, width)), strict=True
    ):
        inside = np.zeros_like(mask)
        inside[top:bottom, left:right] = True
        mask &= inside
    np.testing.assert_array_equal(after, before)


def test_the_web_example_takes_folders_that_say_nothing_of_repeats_or_margins_and_refuses_unknown_ways(
    tiny_onnx_folder, tiny_segmenter, picture, tmp_path
):
    former = shutil.copytree(tiny_onnx_folder, tmp_path / "former")
    config = json.loads((former / "config.json").read_text())
    del config["dedupe"], config["mask_margin"]
    (former / "config.json").write_text(json.dumps(config))
    answers = ask_node(former, tiny_segmenter, picture, tmp_path, threshold=0)
    ours = tiny_segmenter.segment(picture, text="coin", threshold=0)
    assert len(answers[0]["scores"]) == len(ours) > 1
    with pytest.raises(AssertionError, match='unknown dedupe "often"; choose none, nms, containment'):
        ask_node(former, tiny_segmenter, picture, tmp_path, threshold=0, dedupe="often")
