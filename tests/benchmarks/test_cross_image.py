"""The benchmark of examples on other images: canvas geometry, cases, and a run of a model that is random."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import conceptseg as cs

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cross_image.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cross_image_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_pictures_keep_their_places_on_the_canvas(benchmark):
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]
    canvas, corners, sides = benchmark.paste(pictures)
    assert canvas.shape == (40, 60, 3) and sides == 2 and corners == [(0, 0), (30, 0), (0, 20)]
    assert canvas[0, 0, 0] == 10 and canvas[0, 59, 0] == 20 and canvas[39, 0, 0] == 30
    assert canvas[39, 59, 0] == 128  # nothing was pasted there


def test_a_picture_of_another_size_takes_its_boxes_along(benchmark):
    canvas, corners, _ = benchmark.paste([np.zeros((20, 30, 3), np.uint8), np.ones((40, 15, 3), np.uint8)])
    assert canvas.shape[:2] == (40, 60)
    assert benchmark.moved((0, 0, 15, 40), (40, 15), (20, 30), corners[1]) == [30, 0, 60, 20]
    assert benchmark.moved((3, 10, 6, 20), (40, 15), (20, 30), (0, 20)) == [6, 25, 12, 30]


def test_only_what_lies_in_the_searched_cell_is_counted(benchmark):
    boxes = np.array([[32, 2, 40, 9], [5, 5, 20, 15], [25, 3, 34, 9]], np.float32)
    masks = np.zeros((3, 40, 60), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    found = cs.Result(
        "visual", (40, 60), masks, boxes=boxes, scores=scores, class_scores=scores, presence=0.9,
        presence_logit=2.0,
    )  # fmt: skip
    cut = benchmark.cut_out(found, (30, 0), (20, 30))
    assert cut.boxes.tolist() == [[2, 2, 10, 9]] and cut.masks.shape == (1, 20, 30)
    assert cut.masks.sum() == 8 * 7 and cut.scores.tolist() == [pytest.approx(0.9)]


def test_each_case_has_five_examples_on_other_images(benchmark):
    images, cases = benchmark.scene_cases(2, "held_out")
    assert len(cases) == 4
    for case in cases:
        assert len(case.examples) == 5 and all(image != case.searched for image, _ in case.examples)
        assert all(it.concept == case.concept for _, it in case.examples)
        assert len({image for image, _ in case.examples}) >= 3
    there = [bool(images[case.searched].of(case.concept)) for case in cases]
    assert there == [True, False, True, False]


def test_what_another_name_may_hide_is_not_surely_absent(benchmark):
    scene = SimpleNamespace(families={"red star": [0]})
    absent = [name for name in ("star", "red star", "blue star") if benchmark.surely_absent(name, scene)]
    assert absent == ["blue star"]


def test_a_run_writes_every_way_and_number_of_examples(benchmark, tiny_model_folder, tmp_path, capsys):
    words = ["--model", str(tiny_model_folder), "--targets", "1", "--out", str(tmp_path)]
    assert benchmark.main(words) == 0
    rows = json.loads((tmp_path / "cross_image.json").read_text())["data"]["scenes"]
    assert {(row["way"], row["shots"]) for row in rows} == {
        *((way, shots) for way in benchmark.WAYS for shots in (1, 3, 5)),
        ("own image", 1),
    }
    assert (tmp_path / "cross_image.md").is_file()
    assert "wrote" in capsys.readouterr().out
