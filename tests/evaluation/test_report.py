from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from conceptseg.evaluation import report
from conceptseg.evaluation.evaluate import EvaluationResult, evaluate
from conceptseg.evaluation.report import best_threshold, notes, write_evaluation
from tests.evaluation.scripted import Dataset, Scripted, picture, thing

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 20, 60, 40]
HEADLINE = {"cgf1", "il_mcc", "pmf1", "map", "map50", "map75", "precision", "recall"}


def judged(folder: Path, phrase: str = "cat", masked: bool = True, worst: int = 8) -> EvaluationResult:
    """One right and one false detection, one missed object, in an image; another without the phrase."""
    images = [
        picture(folder, "a.png", {phrase: [thing(A, masked=masked), thing(B, masked=masked)]}),
        picture(folder, "b.png", {}, absent_phrases=(phrase,)),
    ]
    answers = {("a.png", phrase): (0.9, [(A, 0.8), (C, 0.6)]), ("b.png", phrase): (0.2, [(C, 0.55)])}
    return evaluate(Scripted(answers), Dataset(images, masked), worst=worst)  # type: ignore[arg-type]


def test_metrics_file_has_the_promised_shape(tmp_path: Path) -> None:
    write_evaluation(judged(tmp_path), tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics) == {"masks", "boxes", "presence", "per_phrase", "counts", "setup"}
    assert HEADLINE <= set(metrics["masks"]) and set(metrics["masks"]) == set(metrics["boxes"])
    assert set(metrics["presence"]) == {"auroc", "ece"}
    assert set(metrics["per_phrase"]["cat"]) == {"masks", "boxes", "presence", "counts"}
    assert metrics["masks"]["recall"] == pytest.approx(0.5, abs=1e-3)
    assert metrics["setup"]["dataset"] == "drawers"


def test_undefined_figures_are_null(tmp_path: Path) -> None:
    write_evaluation(judged(tmp_path, masked=False), tmp_path / "out")
    text = (tmp_path / "out" / "metrics.json").read_text()
    assert "NaN" not in text
    assert set(json.loads(text)["masks"].values()) == {None}


def test_report_shows_figures_and_the_worst_mistakes(tmp_path: Path) -> None:
    path = write_evaluation(judged(tmp_path), tmp_path / "out")
    text = path.read_text()
    shown = re.findall(r"!\[[^\n]*\]\(([^)]+)\)", text)
    assert shown == [
        "precision_recall.png", "presence.png", "phrases.png", "worst/miss_1.png", "worst/false_1.png",
        "worst/false_2.png",
    ]  # fmt: skip
    for name in shown:
        with Image.open(path.parent / name) as drawn:
            assert drawn.format == "PNG" and len(drawn.convert("RGB").getcolors(2**24) or []) > 10


def test_pictures_of_an_earlier_evaluation_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_evaluation(judged(tmp_path), out)
    (out / "worst" / "false_notes.png").write_bytes(b"somebody else's")
    write_evaluation(judged(tmp_path, worst=1), out)
    left = sorted(path.name for path in (out / "worst").iterdir())
    assert left == ["false_1.png", "false_notes.png", "miss_1.png"]


def test_without_matplotlib_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "can_draw", lambda: False)
    path = write_evaluation(judged(tmp_path), tmp_path / "out")
    assert "need matplotlib" in path.read_text()
    assert not (path.parent / "presence.png").exists()
    assert (path.parent / "worst" / "miss_1.png").exists()


def test_a_phrase_may_hold_any_characters(tmp_path: Path) -> None:
    phrase = "a|b <script> $x_1$ [link](there) `code`"
    text = write_evaluation(judged(tmp_path, phrase=phrase), tmp_path / "out").read_text()
    assert "<script>" not in text
    assert "a\\|b &lt;script&gt;" in text
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [12]  # eleven columns


def test_a_phrase_that_is_in_every_image_has_no_correlation_to_report(tmp_path: Path) -> None:
    images = [picture(tmp_path, "a.png", {"cat": [thing(A)]}, absent_phrases=("dog",))]
    result = evaluate(Scripted({("a.png", "cat"): (0.9, [(A, 0.8)])}), Dataset(images))  # type: ignore[arg-type]
    rows = [
        line
        for line in write_evaluation(result, tmp_path / "out").read_text().splitlines()
        if "cat" in line[:6]
    ]
    assert rows[0].startswith("| cat | - | - | 100.0 | 100.0 | 100.0 | - | 1 | 0 | 1 | 1 |")


def test_best_threshold_is_where_f1_is_highest(tmp_path: Path) -> None:
    # From 0.61 up: one right detection, two objects: precision 1, recall 1/2, F1 2/3
    score, f1 = best_threshold(judged(tmp_path).curves["masks"]) or (0.0, 0.0)
    assert 0.6 < score <= 0.8
    assert f1 == pytest.approx(2 / 3)


def test_notes_say_what_the_data_cannot_show(tmp_path: Path) -> None:
    assert notes(judged(tmp_path)) == []
    assert "not every object has a mask" in notes(judged(tmp_path, masked=False))[0]
    only_present = [picture(tmp_path, "a.png", {"cat": [thing(A)]})]
    result = evaluate(Scripted({}), Dataset(only_present))  # type: ignore[arg-type]
    assert "IL-MCC and with it cgF1 are 0 by definition" in notes(result)[0]
