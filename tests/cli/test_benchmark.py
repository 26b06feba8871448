import json
from pathlib import Path

from tests.cli.finished import Run, assert_one_error


def test_benchmark_prints_a_table_and_writes_it_down(run: Run, tiny_model_folder: Path) -> None:
    finished = run(
        "benchmark", "--model", tiny_model_folder, "--out", "speed", "--repeats", 1, "--phrases", 2
    )
    assert finished.code == 0
    assert "vision" in finished.out and "whole, 2 phrases" in finished.out and "GFLOP" in finished.out
    assert finished.out.splitlines()[-1] == "wrote speed/benchmark.md and benchmark.json"
    written = json.loads(Path("speed/benchmark.json").read_text())
    assert written["repeats"] == 1 and written["dtype"] == "float32"


def test_mistakes_end_in_one_line(run: Run, tiny_model_folder: Path) -> None:
    measure = ("benchmark", "--model", tiny_model_folder, "--out", "speed")
    assert_one_error(run(*measure, "--against", "detectron"), "detectron")
    assert_one_error(run(*measure, "--repeats", 0), "repeats")
    assert_one_error(run(*measure, "--dtype", "float8"), "float8")
