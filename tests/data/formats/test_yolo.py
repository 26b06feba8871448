"""YOLO folders: polygons and boxes in fractions, and the ways to say where images lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.errors import DataError
from tests.data.formats.datasets import write_picture, write_yolo

SQUARE = "0 0.25 0.5 0.75 0.5 0.75 1.0 0.25 1.0"  # the box 10, 15, 30, 30 of a 40 x 30 picture
BOX = "1 0.5 0.75 0.5 0.5"  # the same


def describe(folder: Path, text: str = "train: images/train\nnames: [cat, dog]\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.yaml"
    path.write_text(text)
    return path


def open_labels(folder: Path, labels: dict[str, str]) -> ConceptDataset:
    describe(folder)
    write_yolo(folder, labels)
    return open_dataset(folder, absent=0)


def test_a_polygon_and_a_box_are_read(tmp_path: Path) -> None:
    (image,) = open_labels(tmp_path, {"a": f"{SQUARE}\n{BOX}\n\n"})
    (cat,), (dog,) = image.phrases["cat"], image.phrases["dog"]
    assert (image.width, image.height) == (40, 30)
    assert cat.box_xyxy == dog.box_xyxy == (10.0, 15.0, 30.0, 30.0)
    assert cat.decode(30, 40).sum() == 300  # type: ignore[union-attr]
    assert dog.mask is None


@pytest.mark.parametrize(("text", "masks"), [(SQUARE, True), (f"{SQUARE}\n{BOX}", False), ("", False)])
def test_masks_are_there_when_every_object_is_a_polygon(tmp_path: Path, text: str, masks: bool) -> None:
    assert open_labels(tmp_path, {"a": text}).has_masks is masks


def test_an_image_with_an_empty_label_file_or_none_is_empty(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "train" / "c.png")
    dataset = open_labels(tmp_path, {"a": SQUARE, "b": ""})
    assert [list(image.phrases) for image in dataset] == [["cat"], [], []]


def test_names_may_be_numbered(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX})
    describe(tmp_path, "path: .\ntrain: images/train\nval:\ntest: ''\nnames:\n  1: red dog\n  7: cat\n")
    dataset = open_dataset(tmp_path)
    assert dataset.phrases == ("cat", "red dog")
    assert list(dataset[0].phrases) == ["red dog"]


def test_roboflow_says_one_folder_too_high(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_picture(tmp_path / "export" / split / "images" / "a.png")
        labels = tmp_path / "export" / split / "labels" / "a.txt"
        labels.parent.mkdir()
        labels.write_text(SQUARE)
    describe(tmp_path / "export", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    dataset = open_dataset(tmp_path / "export", split="valid")
    assert dataset.split == "val"
    assert dataset[0].path == tmp_path / "export" / "valid" / "images" / "a.png"


def test_a_path_of_another_machine_is_forgiven(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": SQUARE})
    describe(tmp_path, "path: /datasets/animals\ntrain: images/train\nnames: [cat]\n")
    assert len(open_dataset(tmp_path / "data.yaml")) == 1


def test_a_split_may_be_a_list_of_files(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": SQUARE, "b": SQUARE, "c": SQUARE})
    (tmp_path / "few.txt").write_text("./images/train/a.png\nimages/train/c.png\n")
    describe(tmp_path, "train: [few.txt, images/train/b.png]\nnames: [cat]\n")
    assert [image.path.stem for image in open_dataset(tmp_path)] == ["a", "c", "b"]


def test_names_may_stand_in_classes_txt(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX})
    (tmp_path / "classes.txt").write_text("cat\nred dog\n")
    dataset = open_dataset(tmp_path)
    assert dataset.split == "train" and list(dataset[0].phrases) == ["red dog"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.1 0.2 0.3", "3 numbers"),
        ("0 0.1 0.2 0.3 0.4 0.9", "5 numbers"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "7 numbers"),
        ("2 0.5 0.5 0.5 0.5", "class 2 has no name"),
        ("cat 0.5 0.5 0.5 0.5", "not a class and numbers"),
        ("0 200 100 50 50", "200 is not a fraction"),
        ("0 nan 0.5 0.5 0.5", "nan is not a fraction"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(tmp_path: Path, line: str, words: str) -> None:
    dataset = open_labels(tmp_path, {"a": f"{SQUARE}\n{line}\n"})
    with pytest.raises(DataError, match=rf"a\.txt, line 2: .*{words}"):
        dataset[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [cat", "not YAML"),
        ("train: images/train\n", "no names"),
        ("train: images/train\nnames: 3\n", "names is 3"),
        ("train: images/train\nnames: {cat: 1}\n", "class numbers and phrases"),
        ("names: [cat]\n", "no train, val or test"),
        ("train: elsewhere\nnames: [cat]\n", "elsewhere does not exist"),
        ("train: .\nnames: [cat]\npath: none\n", "none of"),
    ],
    ids=lambda value: value[:30],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=words):
        open_dataset(describe(tmp_path, text))


def test_a_listed_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": SQUARE})
    (tmp_path / "few.txt").write_text("images/train/a.png\nimages/train/lost.png\n")
    with pytest.raises(DataError, match=r"1 of 2 images have no file: lost\.png"):
        open_dataset(describe(tmp_path, "train: few.txt\nnames: [cat]\n"))
