"""`conceptseg evaluate` writes what the library measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.finished import Run, assert_one_error
from tests.evaluation.scripted import write_coco

WHOLE, LEFT, RIGHT = [0, 0, 64, 48], [0, 0, 40, 48], [24, 0, 64, 48]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/valid: two images, the phrases coin and star."""
    return write_coco(
        tmp_path / "data", {"a.png": {"coin": [WHOLE]}, "b.png": {"star": [LEFT, RIGHT], "coin": [LEFT]}}
    )


def test_metrics_and_report_are_written_and_named(run: Run, data: Path, tiny_model_folder: Path) -> None:
    # b.png shows all phrases of the data, so it is asked for three things that are rare in any picture.
    finished = run(
        "evaluate", "--model", tiny_model_folder, "--data", data, "--threshold", "0.1", "--out", "judged"
    )
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.splitlines()[-1] == "wrote judged/metrics.json, judged/report.md and its figures"
    assert "cgF1" in finished.out and "2 images, 3 present and 4 absent pairs" in finished.out
    metrics = json.loads(Path("judged/metrics.json").read_text())
    assert metrics["counts"]["objects"] == 4
    assert metrics["setup"]["threshold"] == 0.1
    assert Path("judged/report.md").is_file()


@pytest.mark.parametrize("prompts", ["text", "boxes", "both"])
def test_json_is_the_file(run: Run, data: Path, tiny_model_folder: Path, prompts: str) -> None:
    finished = run(
        "evaluate", "--model", tiny_model_folder, "--data", data, "--prompts", prompts, "--limit", 1,
        "--presence", "ignore", "--absent", "unicorn", "--out", "judged", "--json",
    )  # fmt: skip
    assert finished.code == 0
    assert finished.out == Path("judged/metrics.json").read_text()
    metrics = json.loads(finished.out)
    assert metrics["setup"]["prompts"] == prompts
    assert metrics["counts"]["images"] == 1
    # With one image there is no example of what it does not show.
    assert metrics["counts"]["skipped_pairs"] == (0 if prompts == "text" else 2)
    assert "wrote judged/metrics.json" in finished.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere", "--out", "judged"], ["nowhere"]),
        (["--data", "data", "--split", "train", "--out", "judged"], ["train", "valid"]),
        (["--data", "data", "--out", "data/valid/a.png"], ["--out", "a.png"]),
        (["--data", "data", "--out", "judged", "--prompts", "points"], ["points", "boxes"]),
        (["--data", "data", "--out", "judged", "--threshold", "2"], ["--threshold"]),
        (["--data", "data", "--out", "judged", "--model", "no-such-model"], ["no-such-model"]),
        (["--data", "data"], ["--out"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line(run: Run, data: Path, arguments: list[str], words: list[str]) -> None:
    assert_one_error(run("evaluate", *arguments), *words)
    assert not Path("judged").exists()
