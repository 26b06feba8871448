"""`conceptseg label` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conceptseg.cli.label_phrases import parse_phrase, read_phrases
from conceptseg.errors import PromptError
from tests.cli.finished import Run, assert_one_error
from tests.labelling.pictures import write_pictures


@pytest.fixture
def asked(tmp_path: Path, tiny_model_folder: Path) -> tuple[object, ...]:
    write_pictures(tmp_path / "photos", 5)
    return ("label", "photos", "--model", tiny_model_folder, "--text", "coin:0.1", "--out", "labels")


def test_the_last_line_names_what_was_written_and_problems_are_notes(
    run: Run, asked: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    finished = run(*asked, "--format", "coco", "--format", "yolo")
    assert finished.code == 0
    assert finished.out.splitlines()[-1] == "wrote labels/coco, labels/yolo and labels/contact_sheet.jpg"
    assert finished.err.startswith("skipped ") and "photos/broken.jpg" in finished.err
    assert len(json.loads((tmp_path / "labels/coco/00000.json").read_text())["images"]) == 5


def test_json_says_how_it_stands(run: Run, asked: tuple[object, ...]) -> None:
    run(*asked)
    report = json.loads(run(*asked, "--resume", "--json").out)
    assert report["images"] == {"done": 5, "left": 0, "failed": 0, "skipped": 0}
    assert report["answered"] == 0 and report["concepts"]["coin"]["objects"] > 0


def test_a_preview_goes_into_a_folder_of_its_own(run: Run, asked: tuple[object, ...], tmp_path: Path) -> None:
    finished = run(*asked, "--preview", "2")
    sheet = "labels/preview/contact_sheet.jpg"
    assert finished.out.splitlines()[-1] == f"wrote labels/preview/coco and {sheet}"
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["preview"]


def test_mistakes_end_in_one_line(run: Run, asked: tuple[object, ...]) -> None:
    assert_one_error(run(*asked[:4], "--out", "labels"), "nothing was asked", "--text")
    assert_one_error(run(*asked, "--resume"), "labels", "--resume")
    assert_one_error(run(*asked, "--text", "dog:40"), "--text dog:40", "from 0 to 1")
    run(*asked)
    assert_one_error(run(*asked, "--max-instances", "3"), "most instances was None, now 3", "--restart")


def test_examples_without_a_phrase_get_a_name(run: Run, asked: tuple[object, ...], tmp_path: Path) -> None:
    example = ("--exemplar", "photos/001.png:4,4,30,28", "--negative-exemplar", "photos/001.png:30,2,46,20")
    run(*asked[:4], "--out", "labels", *example, "--name", "widget", "--threshold", "0.05")
    categories = json.loads((tmp_path / "labels/coco/00000.json").read_text())["categories"]
    assert categories == [{"id": 1, "name": "widget"}]


def test_a_phrase_may_end_in_its_threshold() -> None:
    for option, text, threshold in (
        ("dog", "dog", 0.5), ("dog:0.4", "dog", 0.4), ("a: b", "a: b", 0.5), ("red dog : 1", "red dog", 1.0),
    ):  # fmt: skip
        phrase = parse_phrase(option, 0.5)
        assert (phrase.text, phrase.threshold) == (text, threshold)


def test_phrases_come_from_yaml_with_examples_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text(
        "- cat\n- {text: dog, threshold: 0.4}\n"
        "- {name: widget, exemplars: ['a.png:1,2,3,4'], negative_exemplars: ['b.png:5,6,7,8']}\n"
    )
    cat, dog, widget = read_phrases(file, 0.3)
    assert (cat.name, cat.threshold, dog.threshold) == ("cat", 0.3, 0.4)
    assert (widget.text, [example.label for example in widget.examples]) == (None, [1, 0])
    assert widget.examples[0].image == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("content", "words"),
    [("cat", "a list"), ("- {text: a, treshold: 1}", "treshold"), ("- {threshold: 1}", "needs a text")],
)
def test_a_wrong_yaml_says_where(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "phrases.yaml").write_text(content)
    with pytest.raises(PromptError, match=words):
        read_phrases(tmp_path / "phrases.yaml", 0.5)
