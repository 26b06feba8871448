"""What the benchmark of a review counts, and what its reviewer does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conceptseg as cs
from benchmarks import review_story
from conceptseg.data.concept_data import open_dataset
from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.evaluation.evaluate import evaluate
from conceptseg.study.intervals import Bootstrap


def test_its_figures_are_those_of_evaluate(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_story, "PHRASE", "square")  # which nano knows
    dataset = open_dataset(review_story.called_cell(tiles, tmp_path / "data"), "valid")
    assert dataset.phrases == ("square",)
    found = list(review_story.counted("nano", dataset))
    draws = Bootstrap(range(len(found)))
    ours = {name: draws.of(one).value for name, one in review_story.statistics(found).items()}
    theirs = evaluate(cs.load("nano"), dataset, worst=0).boxes
    assert theirs["f1_50"] > 0 and theirs["map50"] > 0
    expected = {"cgf1": theirs["cgf1"], "f1_50": theirs["f1_50"], "ap50": theirs["map50"]}
    assert ours == pytest.approx(expected, abs=1e-4)  # evaluate adds 0.0001 to what it divides by


class Page:
    """An image of which one object is labelled rightly, one wrongly, and a model that finds others."""

    def __init__(self, suggested: list[list[float]]) -> None:
        self.suggested = suggested
        self.log: list[Any] = []

    def get(self, path: str) -> SimpleNamespace:
        objects = [{"key": 7, "bbox": [10, 10, 10, 10]}, {"key": 8, "bbox": [60, 60, 10, 10]}]
        return self._answer({"name": "one.png", "objects": objects})

    def delete(self, path: str) -> SimpleNamespace:
        self.log.append(path)
        return self._answer(None)

    def post(self, path: str, json: dict[str, Any]) -> SimpleNamespace:
        if path.endswith("/suggestions"):
            objects = [{"bbox": box} for box in self.suggested] if json["boxes"] else []
            return self._answer({"id": "x", "objects": objects})
        self.log.append(json.get("chosen", json.get("state")))
        return self._answer(None)

    @staticmethod
    def _answer(content: Any) -> SimpleNamespace:
        answer = SimpleNamespace(json=lambda: content)
        answer.raise_for_status = lambda: answer
        return answer


@pytest.mark.parametrize(
    ("suggested", "added", "state"),
    [([[80, 80, 5, 5], [31, 30, 10, 10]], [[1]], "accepted"), ([[80, 80, 5, 5]], [], "rejected")],
)
def test_the_reviewer_deletes_adds_what_fits_and_rejects_what_stays_incomplete(
    suggested: list[list[float]], added: list[list[int]], state: str
) -> None:
    boxes = [(10.0, 10.0, 20.0, 20.0), (30.0, 30.0, 40.0, 40.0)]
    truth = ConceptImage(Path("one.png"), 100, 100, {"cell": [ConceptObject(box) for box in boxes]})
    page = Page(suggested)
    reviewer = review_story.Reviewer(page)
    reviewer.look(3, truth)
    assert page.log == ["/review/images/3/objects/8", *added, state]
    assert reviewer.done[f"deleted, {state}"] == 1 and reviewer.done[f"added, {state}"] == len(added)


def test_no_true_object_fits_two() -> None:
    found = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], float)
    assert review_story.fitting(found, np.array([[0, 0, 10, 10]], float)) == {0: 0}
    assert review_story.fitting(found, np.zeros((0, 4))) == {}
