"""The gap of a model, from pictures to the report."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import conceptseg as cs
from conceptseg.data.scenes import render_scene
from conceptseg.errors import DataError, OptionError
from conceptseg.exemplars.conflict import gradient_conflict
from conceptseg.exemplars.gap import Gap, measure_gap
from conceptseg.exemplars.gap_pictures import ShownImage, choose_examples, images_of_scenes
from conceptseg.exemplars.gap_report import gap_table, write_gap
from conceptseg.exemplars.tokens import read_boxes, read_examples


@pytest.fixture(scope="module")
def pictures() -> list[ShownImage]:
    return list(images_of_scenes([render_scene(seed, size=96, theme=seed // 2) for seed in range(5)]))


@pytest.fixture(scope="module")
def measured(tiny_segmenter, pictures) -> Gap:
    return measure_gap(tiny_segmenter, pictures, per_concept=1, changed=3, gradients=2)


def test_the_token_of_a_box_is_what_an_exemplar_of_it_holds(tiny_segmenter, pictures) -> None:
    pixels, box = pictures[0].pixels, pictures[0].objects[0].box_xyxy
    said = read_boxes(tiny_segmenter, pixels, [box, box])
    kind = tiny_segmenter.exemplar(pixels, boxes=[list(box)])
    np.testing.assert_allclose(said.tokens[0], kind.tokens[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(said.tokens[1], said.tokens[0], atol=1e-6)
    np.testing.assert_allclose(said.closing[0], kind.tokens[1].numpy(), atol=1e-5)
    assert said.cells.shape == (2, 49, 32) and said.pooled.shape == (2, 32)


def test_examples_are_the_same_in_every_run_and_come_image_by_image(tiny_segmenter, pictures) -> None:
    examples = choose_examples(pictures, 2, seed=3)
    assert examples == choose_examples(pictures, 2, seed=3) != choose_examples(pictures, 2, seed=4)
    for number, it in examples:
        assert sum(n == number and o.concept == it.concept for n, o in examples) <= 2
    said = read_examples(tiny_segmenter, pictures, examples)
    number, last = examples[-1]
    alone = read_boxes(tiny_segmenter, pictures[number].pixels, [last.box_xyxy])
    np.testing.assert_allclose(said.tokens[-1], alone.tokens[0], atol=1e-5)


def test_every_part_of_the_gap_is_measured(measured, tiny_segmenter) -> None:
    figures = measured.figures
    assert set(figures) == {"statistics", "agreement", "closing", "scale", "context", "conflict"}
    assert figures["closing"]["centred"] != figures["agreement"]["centred"]
    assert len(figures["statistics"]["token_mean"]) == 32
    for part in ("raw", "centred", "linear"):
        assert -1 <= figures["agreement"][part]["cosine_own"] <= 1
    assert figures["scale"]["0.5x"]["examples"] == 3 and figures["context"]["covered"]["examples"] == 3
    assert -1 <= figures["conflict"]["cosine"] <= 1 and figures["conflict"]["examples"] == 2
    assert measured.setup["fingerprint"] == tiny_segmenter.fingerprint and measured.setup["encoder"] == "roi"


def test_measuring_leaves_the_model_as_it_was(tiny_segmenter, pictures) -> None:
    before = {name: value.clone() for name, value in tiny_segmenter.detector.state_dict().items()}
    gradient_conflict(tiny_segmenter, pictures, choose_examples(pictures, 1, 0)[:1])
    for name, value in tiny_segmenter.detector.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in tiny_segmenter.detector.parameters())


def test_boxes_without_masks_leave_out_the_background_alone(tiny_segmenter, pictures) -> None:
    boxed = [
        ShownImage(image.pixels, tuple(dataclasses.replace(it, mask=None) for it in image.objects))
        for image in pictures
    ]
    gap = measure_gap(tiny_segmenter, boxed, per_concept=1, changed=2, gradients=1)
    assert math.isnan(gap.figures["context"]["background"]["cosine"])
    assert math.isfinite(gap.figures["context"]["covered"]["cosine"])
    assert math.isfinite(gap.figures["conflict"]["cosine"])


def test_the_report_puts_two_models_side_by_side(measured, tmp_path) -> None:
    other = Gap(measured.figures, {**measured.setup, "model": "aligned"})
    assert write_gap(measured, tmp_path / "gap", other).is_file()
    written = json.loads((tmp_path / "gap" / "gap.json").read_text())
    assert written["model"]["setup"]["model"] == "tiny" and written["against"]["setup"]["model"] == "aligned"
    assert gap_table(measured, other)[0] == ["measured", "tiny", "aligned"]
    assert (tmp_path / "gap" / "gap.png").stat().st_size > 5000
    write_gap(measured, tmp_path / "alone")
    assert json.loads((tmp_path / "alone" / "gap.json").read_text())["against"] is None


def test_what_cannot_be_said_is_a_dash_and_null(measured, tmp_path) -> None:
    unknown = Gap({**measured.figures, "conflict": {"cosine": math.nan}}, measured.setup)
    _, rows = gap_table(unknown, None)
    assert ["cosine of the gradients through the two encoders", "-"] in rows
    write_gap(unknown, tmp_path)
    assert json.loads((tmp_path / "gap.json").read_text())["model"]["figures"]["conflict"]["cosine"] is None


def test_too_little_to_compare_is_an_error(tiny_segmenter, pictures) -> None:
    with pytest.raises(DataError, match="fewer than two objects"):
        measure_gap(tiny_segmenter, [])
    with pytest.raises(OptionError, match="images is 0; give 1 or more"):
        measure_gap(tiny_segmenter, pictures, images=0)


def test_the_package_is_reached_from_the_top() -> None:
    assert cs.exemplars.measure_gap is measure_gap
    with pytest.raises(AttributeError, match="no attribute 'close_gap'"):
        cs.exemplars.close_gap  # noqa: B018  the access is what is tested


def test_two_models_of_one_name_are_told_apart_by_their_encoders_or_else_their_fingerprints(
    measured: Gap,
) -> None:
    name = measured.setup["model"]
    other = dataclasses.replace(measured, setup={**measured.setup, "encoder": "adaptive"})
    assert gap_table(measured, other)[0] == ["measured", f"{name} (roi)", f"{name} (adaptive)"]
    other = dataclasses.replace(measured, setup={**measured.setup, "fingerprint": "0123456789abcdef"})
    headings, _ = gap_table(measured, other)
    assert headings[2] == f"{name} (0123456789abcdef)" and headings[1] != headings[2]
    assert gap_table(measured, None)[0] == ["measured", name]
