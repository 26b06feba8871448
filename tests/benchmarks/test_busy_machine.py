"""The benchmark of a busy machine, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.busy_machine import counting, main


def test_both_ways_to_wait_are_measured_quiet_and_busy(
    tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tiny_model_folder), "--repeats", "1", "--beside", "1"])
    machine, _, heading, _, *rows = capsys.readouterr().out.splitlines()
    assert "load before" in machine and "1 processes beside" in heading
    assert [row.split(" | ")[0] for row in rows] == ["| as OpenMP has it", "| OMP_WAIT_POLICY=PASSIVE"]
    assert all(float(cell) > 0 for row in rows for cell in row.strip(" |").split(" | ")[1:])


def test_what_runs_beside_ends_with_the_measurement() -> None:
    with counting(2) as others:
        assert [other.poll() for other in others] == [None, None]
    assert all(other.poll() is not None for other in others)
