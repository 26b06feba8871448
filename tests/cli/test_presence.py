"""`conceptseg presence` writes what the library finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.finished import Run, assert_one_error
from tests.evaluation.scripted import write_coco

LEFT, RIGHT = [0, 0, 40, 48], [24, 0, 64, 48]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/valid: two images, the phrases coin and star."""
    return write_coco(tmp_path / "data", {"a.png": {"coin": [LEFT]}, "b.png": {"star": [LEFT, RIGHT]}})


def test_diagnose_writes_and_names_the_report_and_prints_the_verdict(
    run: Run, data: Path, tiny_model_folder: Path
) -> None:
    model = ("--model", tiny_model_folder, "--teacher", tiny_model_folder)
    finished = run("presence", "diagnose", *model, "--data", data, "--threshold", "0.2", "--out", "found")
    assert (finished.code, finished.err) == (0, "")
    *_, verdict, last = finished.out.splitlines()
    assert verdict.startswith("verdict: ")
    assert last == "wrote found/diagnosis.json and found/report.md"
    assert "fusion memory" in finished.out
    assert json.loads(Path("found/diagnosis.json").read_text())["setup"]["threshold"] == 0.2


def test_diagnose_json_is_the_file(run: Run, data: Path, tiny_model_folder: Path) -> None:
    finished = run(
        "presence", "diagnose", "--model", tiny_model_folder, "--data", data, "--limit", 1,
        "--absent", "unicorn", "--phrases", 2, "--out", "found", "--json",
    )  # fmt: skip
    assert finished.code == 0
    assert finished.out == Path("found/diagnosis.json").read_text()
    assert json.loads(finished.out)["model"]["absent_pairs"] == 2
    assert "wrote found/diagnosis.json" in finished.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere", "--out", "found"], ["nowhere"]),
        (["--data", "data", "--out", "data/valid/a.png"], ["--out", "a.png"]),
        (["--data", "data", "--out", "found", "--teacher", "no-such-model"], ["no-such-model"]),
        (["--data", "data"], ["--out"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line(
    run: Run, data: Path, tiny_model_folder: Path, arguments: list[str], words: list[str]
) -> None:
    assert_one_error(run("presence", "diagnose", "--model", tiny_model_folder, *arguments), *words)
    assert not Path("found").exists()


def test_repair_writes_a_model_and_says_before_and_after(
    run: Run, data: Path, tiny_model_folder: Path
) -> None:
    finished = run(
        "presence",
        "repair",
        "--model",
        tiny_model_folder,
        "--method",
        "ignore",
        "--data",
        data,
        "--out",
        "mended",
    )
    assert finished.code == 0
    assert "before" in finished.out and "after" in finished.out
    assert finished.out.splitlines()[-1] == "wrote mended, a model, and mended/repair.md"
    assert json.loads(Path("mended/config.json").read_text())["presence_mode"] == "ignore"
    assert "repairing: ignore" in finished.err


def test_repair_json_is_the_file(run: Run, data: Path, tiny_model_folder: Path) -> None:
    finished = run(
        "presence", "repair", "--model", tiny_model_folder, "--method", "ignore", "--data", data,
        "--out", "mended", "--threshold", "0.2", "--judge-images", 1, "--json",
    )  # fmt: skip
    assert finished.code == 0
    assert finished.out == Path("mended/repair.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "hope"], ["hope", "calibrate"]),
        (["--method", "distil"], ["teacher"]),
        (["--method", "distill"], ["teacher"]),
        (["--method", "calibrate", "--labels", "none"], ["--teacher"]),
        (["--method", "finetune", "steps=0"], ["steps is 0"]),
        (["--method", "calibrate"], ["pairs are too few"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_in_repair_is_one_error(
    run: Run, data: Path, tiny_model_folder: Path, arguments: list[str], words: list[str]
) -> None:
    finished = run(
        "presence", "repair", "--model", tiny_model_folder, "--data", data, "--out", "mended", *arguments
    )
    assert (finished.code, finished.out) == (2, "")
    *_, last = finished.err.splitlines()  # before it, what was being done
    assert last.startswith("error: ")
    assert [word for word in words if word not in last] == []


def test_study_runs_a_recipe_and_names_its_report(run: Run, data: Path, tiny_model_folder: Path) -> None:
    Path("study.yaml").write_text(
        f"{{teacher: '{tiny_model_folder}', data: data, fit_images: 1, judge_images: 1, seeds: [0], "
        "stage_1: [steps=1, data.images=2, data.workers=0, validation_batches=0]}"
    )
    finished = run("presence", "study", "--recipe", "study.yaml", "--out", "study", "--resume")
    assert (finished.code, finished.out) == (0, "wrote study/report.md\n")
    assert "seed 0: distilling encoders" in finished.err
    assert_one_error(run("presence", "study", "--recipe", "study.yaml", "--out", "study"), "already holds")
