"""What is decided is kept, undone, and written out."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from conceptseg.data.check import check_dataset
from conceptseg.errors import DataError, ImageError, OptionError
from conceptseg.labelling import label
from conceptseg.review import Review, export_accepted
from conceptseg.review.review import nearest_to_threshold
from tests.labelling.pictures import two_phrases


def answer(presence: float, *scores: float) -> dict:
    return {
        "presence": [{"category_id": 1, "presence": presence}],
        "annotations": [{"category_id": 1, "score": score} for score in scores],
    }


def test_doubt_is_the_distance_of_presence_and_scores_to_the_threshold() -> None:
    assert nearest_to_threshold(answer(0.9, 0.8, 0.55), [0.5]) == pytest.approx(0.05)
    assert nearest_to_threshold(answer(0.45), [0.5]) == pytest.approx(0.05)
    assert nearest_to_threshold(answer(0.01), [0.4]) == pytest.approx(0.39)


def test_the_doubtful_come_first(review: Review) -> None:
    thresholds = [phrase.threshold for phrase in review.phrases]
    assert thresholds == [0.1, 0.1]
    doubts = [nearest_to_threshold(review.at(place).image.answer, thresholds) for place in range(6)]
    assert doubts == sorted(doubts) and doubts[0] < doubts[-1]


def test_a_decision_is_there_when_the_folder_is_opened_again(labels: Path) -> None:
    with Review.open(labels) as review:
        key = review.at(2).decision.objects[0].key
        before = len(review.at(2).decision.objects)
        review.remove(2, key)
        review.decide(2, "accepted")
        review.decide(0, "rejected")
    with Review.open(labels) as again:
        assert again.counts() == {"open": 4, "accepted": 1, "rejected": 1}
        assert again.at(2).decision.state == "accepted"
        assert len(again.at(2).decision.objects) == before - 1
        assert again.next_open(0) == 1 and again.next_open(1) == 3


def test_every_step_is_undone_and_redone_also_after_a_restart(labels: Path) -> None:
    with Review.open(labels) as review:
        first = review.at(1).decision
        review.remove(1, first.objects[0].key)
        review.add(1, first.objects[:1])
        review.decide(4, "accepted")
    with Review.open(labels) as again:
        added = again.at(1).decision.objects[-1]
        assert added.added and added.key not in {one.key for one in first.objects}
        assert again.steps() == (True, False)
        assert [again.undo(), again.undo(), again.undo(), again.undo()] == [4, 1, 1, None]
        assert again.at(1).decision == first and again.counts()["open"] == 6
        assert [again.redo(), again.redo()] == [1, 1]
        again.decide(0, "rejected")
        assert again.redo() is None  # what was undone before a new step is gone
        assert len(again.at(1).decision.objects) == len(first.objects)


def test_a_labelling_run_again_takes_no_decision_away_and_a_changed_image_is_open(
    labels: Path, tiny_model_folder: Path
) -> None:
    photos = labels.parent / "photos"
    with Review.open(labels) as review:
        places = {review.at(place).image.name: place for place in range(6)}
        for name in ("001.png", "002.png"):
            review.remove(places[name], review.at(places[name]).decision.objects[0].key)
            review.decide(places[name], "accepted")
        left = len(review.at(places["001.png"]).decision.objects)
    (photos / "002.png").write_bytes((photos / "004.png").read_bytes())
    label([photos], two_phrases(tiny_model_folder, threshold=0.12), labels, restart=True)
    with Review.open(labels) as again:
        shown = {again.at(place).image.name: again.at(place).decision for place in range(6)}
        assert (shown["001.png"].state, len(shown["001.png"].objects)) == ("accepted", left)
        assert shown["002.png"].state == "open"


def test_an_image_that_was_changed_since_is_not_shown_with_its_old_labels(labels: Path) -> None:
    with Review.open(labels) as review:
        path = Path(review.at(0).image.path)
        assert review.content(0) == path.read_bytes()
        path.write_bytes(b"another")
        with pytest.raises(ImageError, match="was changed since"):
            review.content(0)
        path.unlink()
        with pytest.raises(ImageError, match="cannot be read"):
            review.content(0)


def test_the_accepted_are_a_dataset_that_fine_tuning_takes(review: Review, labels: Path) -> None:
    review.remove(3, review.at(3).decision.objects[0].key)
    for place in (3, 5, 1):
        review.decide(place, "accepted")
    review.decide(0, "rejected")
    kept = sum(len(review.at(place).decision.objects) for place in (1, 3, 5))
    written = export_accepted(review)
    assert (written.images, written.objects) == (3, kept)
    report = check_dataset(written.folder)
    assert report.problems == []
    coco = json.loads((labels / "reviewed/train/_annotations.coco.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["red circle", "coin"]
    names = {entry["file_name"] for entry in coco["images"]}
    assert names == {review.at(place).image.name for place in (1, 3, 5)}
    review.decide(5, "rejected")
    assert export_accepted(review).images == 2
    links = [path for path in (labels / "reviewed").rglob("*.png") if path.is_symlink()]
    assert len(links) == 2


def test_nothing_accepted_is_nothing_to_export(review: Review) -> None:
    with pytest.raises(OptionError, match="no image is accepted"):
        export_accepted(review)


def test_a_file_in_the_way_is_left_alone(review: Review, labels: Path) -> None:
    review.decide(0, "accepted")
    mine = labels / "reviewed" / "train" / review.at(0).image.name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OptionError, match="in the way"):
        export_accepted(review)
    assert mine.read_text() == "mine"


def test_what_cannot_be_reviewed_is_told(tmp_path: Path, labels: Path, review: Review) -> None:
    with pytest.raises(OptionError, match="holds no labels"):
        Review.open(tmp_path / "nothing")
    with pytest.raises(OptionError, match="another process"):
        Review.open(labels)
    review.close()
    with sqlite3.connect(labels / "review.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DataError, match="another version"):
        Review.open(labels)
