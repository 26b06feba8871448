"""The script for a GPU, on a CPU and a small network: what it writes, and what it does without time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_every_part_is_measured_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "REPEATS", 1)
    parts = {name: gpu.PARTS[name] for name in ("correct", "speed", "batch")}  # compiling takes a minute
    monkeypatch.setattr(gpu, "PARTS", parts)
    arguments = ["gpu.py", str(tmp_path), "--device", "cpu", "--size", "tiny"]
    monkeypatch.setattr(sys, "argv", arguments)
    gpu.main()
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left_out"] == {}
    assert 0 < found["correct"]["class_logits"] < 0.2
    assert set(found["speed"]["ratios"]) == {"1", "8"}
    assert found["batch"]["images"] == gpu.BATCH

    monkeypatch.setattr(sys, "argv", [*arguments, "--minutes", "0"])
    gpu.main()
    assert set(json.loads((tmp_path / "gpu.json").read_text())["left_out"]) == set(parts)
