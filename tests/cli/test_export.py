import json
from pathlib import Path

import numpy as np
import pytest

import conceptseg as cs
from conceptseg.checkpoints.onnx_folder import OnnxInfo, write_onnx_config
from conceptseg.export import onnx_export
from tests.cli.finished import assert_one_error

COINS = Path(cs.__file__).parent / "assets" / "coins.png"
COIN = [[189, 170, 237, 217]]


@pytest.fixture(scope="module")
def nano_onnx(tmp_path_factory):
    """`nano` at its own size, as the command exports it."""
    from conceptseg.cli.main import main

    folder = tmp_path_factory.mktemp("exported") / "nano-onnx"
    assert main(["export", "onnx", "--model", "nano", "--out", str(folder), "--check"]) == 0
    return folder


@pytest.mark.slow
def test_nano_exports_and_finds_the_same_masks_on_the_photograph(nano_onnx):
    checked = json.loads((nano_onnx / "config.json").read_text())["onnx"]["checked"]
    assert max(max(outputs.values()) for outputs in checked.values()) < 1e-3
    theirs, ours = cs.load("nano", dtype="float32"), cs.load(nano_onnx)
    kind = theirs.exemplar(COINS, COIN)
    for prompt in ({"text": "coin"}, {"boxes": COIN}, {"text": "coin", "boxes": COIN}, {"exemplar": kind}):
        a, b = (segmenter.segment(COINS, threshold=0.3, **prompt) for segmenter in (theirs, ours))
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        assert (a.masks != b.masks).mean() < 1e-4


@pytest.mark.slow
def test_segment_runs_an_exported_model(nano_onnx, run):
    finished = run("segment", COINS, "--text", "coin", "--model", nano_onnx, "--out", "found")
    assert finished.code == 0 and "wrote found/results.json" in finished.out


def test_export_prints_files_sizes_and_differences(run, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(onnx_export, "GRAPHS", ("text",))
    finished = run("export", "onnx", "--model", tiny_model_folder, "--out", "onnx", "--quantize", "int8")
    assert finished.code == 0
    assert "relative difference" in finished.out and "text.onnx" in finished.out
    assert finished.out.splitlines()[-1] == "wrote onnx"
    finished = run("export", "onnx", "--model", tiny_model_folder, "--out", "onnx", "--no-check", "--json")
    printed = json.loads(finished.out)
    assert printed["differences"] == {} and printed["files"]["text.onnx"] > 1000
    assert "were not compared" in finished.err


def test_mistakes_end_in_one_line(run, tiny_model_folder, photo):
    export = ("export", "onnx", "--model", tiny_model_folder)
    assert_one_error(run(*export, "--out", photo), "--out", "is a file")
    assert_one_error(run(*export, "--out", "x", "--resolution", "100"), "multiple of 32")
    assert_one_error(run(*export, "--out", "x", "--quantize", "int2"), "int2")
    assert_one_error(run("export", "onnx", "--out", "x", "--model", "nanno"), "did you mean 'nano'")


def test_weights_commands_say_that_an_onnx_folder_has_none(run, tiny_segmenter, tmp_path):
    # Its config says what it is; nothing else of it is looked at.
    write_onnx_config(tmp_path, tiny_segmenter.config, OnnxInfo(96, 18, tiny_segmenter.fingerprint))
    assert_one_error(run("models", "info", tmp_path), "ONNX folder", "exported from")
