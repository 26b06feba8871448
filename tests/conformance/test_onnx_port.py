"""An exported model is a port as any other: the script of the docs, and what the check says of it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import conceptseg as cs
from conceptseg.conformance.kit import Kit, check
from conceptseg.export.onnx_export import export_onnx

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_exported_graphs_conform(clip_kit: Path, tmp_path: Path) -> None:
    export_onnx(cs.load(clip_kit / "official"), tmp_path / "onnx", check=False)
    script = runpy.run_path(str(ROOT / "examples" / "conformance_onnx.py"))
    script["main"](clip_kit, tmp_path / "onnx", tmp_path / "port.safetensors")
    found = check(Kit(clip_kit), tmp_path / "port.safetensors")
    assert found.first is None and found.unknown == []
    assert sum(finding.status == "agrees" for finding in found.findings) == 11
