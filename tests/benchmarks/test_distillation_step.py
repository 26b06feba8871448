"""The benchmark of distillation steps, at a small size."""

from __future__ import annotations

import pytest

from benchmarks.distillation_step import HEADINGS, main


@pytest.mark.parametrize(("stage", "more"), [(1, []), (2, ["--checkpoint"])])
def test_a_row_is_printed_for_each_stage(
    stage: int, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--teacher", "nano", "--student", "nano-student", "--resolution", "64", "--images", "1"]
    main([*arguments, "--stage", str(stage), "--steps", "1", *more])
    heading, _, row = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(HEADINGS) == heading.count("|") - 1
    assert cells[:7] == ["nano", "nano-student", str(stage), "1", "1", "64", "cpu"]
    assert all(float(cell) > 0 for cell in cells[7:])
