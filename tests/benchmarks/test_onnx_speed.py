"""The benchmark of exported models, on a tiny one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.onnx_speed import export, measure, model_folder, table


def test_torch_and_onnx_take_turns_and_agree(
    tiny_model_folder: Path, tiny_onnx_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "float32").symlink_to(tiny_onnx_folder)
    assert export(tiny_model_folder, tmp_path, "none", True) == (tmp_path / "float32", None)  # taken as it is
    result = measure(["torch", "onnx"], tiny_model_folder, tmp_path, [1, 2], repeats=1)
    heading, _, first, second = table(result, [1, 2]).splitlines()
    assert "| 1 phrase | 2 phrases |" in heading
    assert heading.count("|") == first.count("|") == second.count("|")
    apart = result["programs"]["onnx"]["agreement"]
    assert 0 < apart["class_logits"] < 1e-4 and apart["boxes_px"] < 1e-2
    assert result["programs"]["torch"]["agreement"]["boxes_px"] == 0


def test_openvino_reads_the_same_files(
    tiny_model_folder: Path, tiny_onnx_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "float32").symlink_to(tiny_onnx_folder)
    result = measure(["torch", "openvino"], tiny_model_folder, tmp_path, [1], repeats=1)
    assert result["programs"]["openvino"]["agreement"]["class_logits"] < 1e-3


def test_a_preset_gets_random_weights_once(tmp_path: Path) -> None:
    first = model_folder("nano-student", tmp_path)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert model_folder("nano-student", tmp_path) == first == tmp_path / "model"
    assert (first / "model.safetensors").stat().st_mtime_ns == written
