"""The whole command on tiny models; figures are not judged, only that they are there and agree."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import conceptseg as cs
from benchmarks.random_sam3 import write_random_sam3
from conceptseg.benchmark import flops
from conceptseg.benchmark.clock import StageClock
from conceptseg.benchmark.flops import count_flops, matrix_peak
from conceptseg.benchmark.programs import STAGES, Transformers
from conceptseg.benchmark.report import markdown, save_report
from conceptseg.benchmark.run import Benchmark, Measured, benchmark, compare

COINS = Path(cs.__file__).parent / "assets" / "coins.png"


@pytest.fixture(scope="module")
def sam3_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "hf"
    write_random_sam3(folder, "tiny")
    return folder


def test_the_other_program_is_asked_in_bfloat16_too(sam3_folder):
    """Its processor gives boxes in float64."""
    theirs = Transformers(sam3_folder, torch.device("cpu"), "bfloat16").raw(COINS, "silver coin")
    exact = Transformers(sam3_folder, torch.device("cpu"), "float32").raw(COINS, "silver coin")
    assert 0 < compare(theirs, exact, 1008)["class_logits"] < 0.2


@pytest.mark.slow
def test_both_programs_are_measured_on_the_same_weights_and_agree(sam3_folder, tmp_path):
    result = benchmark(
        sam3_folder,
        COINS,
        against="transformers",
        text=["silver coin"],
        phrases=[1, 2],
        repeats=1,
        dtype="float32",
    )
    assert list(result.programs) == ["conceptseg", "transformers"]
    for measured in result.programs.values():
        assert set(measured.stages) == set(STAGES) and all(s > 0 for s in measured.stages.values())
        assert list(measured.end_to_end) == [1, 2] and measured.memory["resident"] > 100
    assert result.agreement["class_logits"] < 1e-4 and result.agreement["boxes_px"] < 0.1
    assert result.agreement["mask_iou_least"] > 0.9
    path = save_report(result, tmp_path, "conceptseg benchmark ...")
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["programs"]["transformers"]["end_to_end"]["2"] > 0
    table = path.read_text()
    assert "| whole, 2 phrases |" in table and "| GFLOP |" in table and "mask IoU at least" in table


def test_an_exported_model_is_measured_in_one_piece(tiny_onnx_folder):
    result = benchmark(tiny_onnx_folder, COINS, phrases=[2], repeats=1)
    assert result.parameters is None and result.flops == {}
    assert {"vision", "masks"} <= set(result.programs["conceptseg"].stages)
    assert "GFLOP |" not in markdown(result, "x")


def test_impossible_choices_are_refused(tiny_model_folder, tiny_onnx_folder):
    with pytest.raises(cs.OptionError, match="choose 'transformers'"):
        benchmark(tiny_model_folder, COINS, against="detectron")
    with pytest.raises(cs.OptionError, match="at least 1"):
        benchmark(tiny_model_folder, COINS, repeats=0)
    with pytest.raises(cs.OptionError, match="give the model that it was exported from"):
        benchmark(tiny_onnx_folder, COINS, against="transformers", repeats=1)


def test_a_module_inside_a_stage_is_timed_apart():
    clock, now = StageClock(torch.device("cpu")), iter([0.0, 1.0, 5.0, 7.0])
    clock.now = lambda: next(now)
    layer = nn.Linear(2, 2)
    with clock.modules({"inner": layer}), clock.stage("outer"):
        layer(torch.zeros(1, 2))
    assert clock.seconds == {"inner": 4.0, "outer": 3.0}
    layer(torch.zeros(1, 2))  # no hook is left
    assert clock.seconds == {"inner": 4.0, "outer": 3.0}


def test_arithmetic_is_counted_once_per_stage(tiny_segmenter):
    counts = count_flops(tiny_segmenter, COINS, "coin")
    assert set(counts) == set(STAGES) - {"preprocess", "postprocess"}
    assert all(count > 0 for count in counts.values())
    assert counts["vision"] > counts["text"]


def test_the_peak_is_the_rate_of_the_fastest_product(monkeypatch):
    rates = {(2, 3, 4): 5.0, (6, 7, 8): 9.0, (1, 1, 1): 2.0}
    monkeypatch.setattr(flops, "PRODUCTS", tuple(rates))
    monkeypatch.setattr(flops, "_rate", lambda size, *rest: rates[size])
    assert matrix_peak(torch.device("cpu"), torch.float32) == 9.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rate_of_a_product_is_that_of_its_fastest_layout(dtype, monkeypatch):
    ticks = iter([0.0, 4.0] + [0.0, 2.0] * 5)
    monkeypatch.setattr(flops.time, "perf_counter", lambda: next(ticks))
    assert flops._rate((2, 3, 4), torch.device("cpu"), dtype, repeats=1) == 2 * 2 * 3 * 4 / 2.0


def test_differences_are_told_in_shares_pixels_and_overlap():
    ours = {
        "class_logits": np.array([1.0, -2.0]),
        "presence_logits": np.array([4.0]),
        "boxes_xyxy": np.array([[0.0, 0.0, 0.5, 0.5]]),
        "mask_logits": np.array([[[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]]),
    }
    theirs = {**ours, "class_logits": np.array([1.0, -1.0]), "boxes_xyxy": np.array([[0.0, 0.0, 0.5, 0.6]])}
    theirs["mask_logits"] = np.array([[[1.0, -1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    assert compare(ours, theirs, 100) == pytest.approx(
        {
            "class_logits": 1.0,
            "presence_logits": 0,
            "boxes_px": 10,
            "mask_iou_least": 0.5,
            "mask_iou_mean": 0.5,
        }
    )


def test_pixels_that_are_not_decoded_are_not_counted(tiny_segmenter):
    everything, nothing = (count_flops(tiny_segmenter, COINS, "coin", threshold) for threshold in (0.0, 1.0))
    assert nothing["masks"] < everything["masks"] / 2
    assert nothing | {"masks": 0} == everything | {"masks": 0}


def test_work_is_shown_with_its_share_of_the_peak():
    stages = dict.fromkeys(STAGES, 1.0)
    one = Measured(stages, {1: 8.0}, {"resident": 100.0})
    work = dict.fromkeys(set(STAGES) - {"preprocess", "postprocess"}, 10**9)
    result = Benchmark("m", "i", 64, 1, "cpu", "float32", 2, 1, {"conceptseg": one}, work, peak_flops=4e9)
    lines = {line.split("|")[1].strip(): line for line in markdown(result, "").splitlines() if "|" in line}
    assert lines["fusion"].endswith("| 1.00 | 25% |")
    assert lines["whole, 1 phrase"].endswith("| 6.00 | 19% |")
