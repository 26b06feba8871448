"""OpenVINO in a process of its own: its threads meet no forks and no other runtime of a long test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.own_process import passed_in_own_process


@pytest.mark.slow
def test_an_exported_model_answers_in_openvino_as_in_torch() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert passed_in_own_process(Path(__file__).with_name("openvino_cases.py"))
