"""`conceptseg scenes make` writes what the library writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.finished import Run, assert_one_error

SMALL = ("--count", "3", "--size", "64", "--workers", "1")


def test_a_dataset_is_written_and_named_on_the_last_line(run: Run, tmp_path: Path) -> None:
    finished = run("scenes", "make", "drawn", "--seed", "7", "--split", "held_out", *SMALL)
    annotations = tmp_path / "drawn" / "held_out" / "_annotations.coco.json"
    coco = json.loads(annotations.read_text())
    assert finished.out == f"wrote {annotations.relative_to(tmp_path)} and 3 scenes beside it\n"
    assert finished.err == ""
    assert len(coco["images"]) == 3
    assert all(image["absent_phrases"] for image in coco["images"])
    pictures = [np.asarray(Image.open(annotations.with_name(image["file_name"]))) for image in coco["images"]]
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 3


def test_the_seed_decides_the_pictures(run: Run, tmp_path: Path) -> None:
    pictures = {}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        answer = json.loads(run("scenes", "make", folder, "--seed", seed, "--json", *SMALL).out)
        first = json.loads(Path(answer["annotations"]).read_text())["images"][0]["file_name"]
        pictures[folder] = np.asarray(Image.open(Path(answer["annotations"]).with_name(first)))
    assert np.array_equal(pictures["a"], pictures["b"])
    assert not np.array_equal(pictures["a"], pictures["c"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], ["count"]),
        (["--count", "2", "--split", "test"], ["test", "held_out"]),
        (["--count", "2", "--size", "0"], ["size"]),
        (["--count", "2", "--workers", "-1"], ["workers"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_impossible_option_is_one_line(
    run: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    assert_one_error(run("scenes", "make", "drawn", *arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    theirs = tmp_path / "drawn" / "train" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    assert_one_error(run("scenes", "make", "drawn", *SMALL), "drawn/train", "another folder")
    assert theirs.read_text() == "years of work"
