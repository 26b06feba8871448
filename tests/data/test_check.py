"""What the check of a dataset counts, doubts and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conceptseg.data.check import DatasetReport, check_dataset
from tests.data.formats.datasets import SQUARE, annotation, coco, image, rle, write_coco, write_picture

MASK = rle(30, 40, 10, 10, 30, 20)


def notes_of(report: DatasetReport) -> dict[str, int]:
    found = [finding for split in report.splits for finding in split.notes]
    return {finding.what: finding.count for finding in [*found, *report.notes]}


def check_objects(folder: Path, *objects: dict[str, Any]) -> DatasetReport:
    return check_dataset(write_coco(folder, coco([image(1)], objects, ["cat"])))


def test_a_sound_dataset_is_counted_and_has_no_notes(tmp_path: Path) -> None:
    objects = [
        annotation(1, segmentation=MASK),
        annotation(2, segmentation=[SQUARE], image_id=2),
        annotation(3, segmentation=[SQUARE], image_id=2, category_id=2),
        annotation(4, image_id=2, category_id=2, bbox=[0, 0, 9, 9], iscrowd=1),
    ]
    write_coco(tmp_path / "train", coco([image(1), image(2), image(3)], objects))
    report = check_dataset(tmp_path)
    (split,) = report.splits
    assert report.problems == [] and notes_of(report) == {}
    assert (split.images, split.empty_images, split.objects, split.crowds) == (3, 1, 3, 1)
    assert split.masks == "masks"
    assert {phrase: (count.images, count.objects) for phrase, count in split.phrases.items()} == {
        "cat": (2, 2),
        "dog": (1, 1),
    }


def test_splits_are_counted_apart_and_one_can_be_chosen(tmp_path: Path) -> None:
    write_coco(tmp_path / "train", coco([image(1), image(2)], [annotation(1)]))
    write_coco(tmp_path / "valid", coco([image(7)], [annotation(1, image_id=7)]))
    assert [(split.name, split.images) for split in check_dataset(tmp_path).splits] == [
        ("train", 2),
        ("valid", 1),
    ]
    assert [split.name for split in check_dataset(tmp_path, "val").splits] == ["valid"]


def test_masks_of_a_part_are_told(tmp_path: Path) -> None:
    report = check_objects(tmp_path, annotation(1, segmentation=MASK), annotation(2, bbox=[0, 0, 9, 9]))
    assert report.splits[0].masks == "masks of 1, boxes only of 1"


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"bbox": [5, 5, 0, 5]}, "boxes without area, left out"),
        ({"bbox": [50, 5, 5, 5]}, "boxes outside of their image, left out"),
        ({"bbox": [30, 5, 20, 5]}, "boxes that reach over the edge of their image, cut off there"),
        ({"bbox": [30, 5, 1, 5]}, "boxes less than 2 pixels wide or high"),
        ({"bbox": [0, 0, 40, 30]}, "boxes around the whole image"),
        ({"bbox": [0, 0, 12, 12], "segmentation": MASK}, "boxes that do not fit their mask"),
        ({"segmentation": rle(30, 40, 0, 0, 0, 0)}, "masks without a pixel"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_doubtful_object_is_noted_once(tmp_path: Path, fields: dict[str, Any], note: str) -> None:
    report = check_objects(tmp_path, annotation(1, **fields))
    assert notes_of(report) == {note: 1}
    assert report.problems == []


def test_a_box_over_the_edge_by_rounding_is_no_doubt(tmp_path: Path) -> None:
    assert notes_of(check_objects(tmp_path, annotation(1, bbox=[-0.4, 5, 40.9, 5]))) == {}


def test_the_same_box_twice_is_noted(tmp_path: Path) -> None:
    report = check_objects(tmp_path, annotation(1), annotation(2))
    assert notes_of(report) == {"objects of one phrase with the same box": 1}


def test_phrases_that_read_badly_or_name_nothing_are_noted(tmp_path: Path) -> None:
    report = check_dataset(write_coco(tmp_path, coco([image(1)], [annotation(1)], ["red_cat", "dog"])))
    assert notes_of(report) == {
        "phrases that name nothing in this split": 1,
        "phrases with underscores, where a model expects words": 1,
    }


def test_the_same_picture_in_two_splits_is_noted(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_coco(tmp_path / split, coco([image(1)], [annotation(1)], ["cat"]))
    write_picture(tmp_path / "train" / "2.png", shade=0)  # listed nowhere
    report = check_dataset(tmp_path)
    assert notes_of(report) == {"pictures that are there in two splits": 1}
    assert "train/1.png = valid/1.png" in str(next(iter(report.notes)))


def test_augmented_copies_of_one_picture_in_two_splits_are_noted(tmp_path: Path) -> None:
    for shade, (split, copy) in enumerate([("train", "0a1"), ("train", "0a2"), ("valid", "0a3")]):
        name = f"a_jpg.rf.{copy}.png"
        content = coco([image(1, file_name=name)], [annotation(1)], ["cat"])
        write_coco(tmp_path / split, content)
        write_picture(tmp_path / split / name, shade=shade)
    assert notes_of(check_dataset(tmp_path)) == {"pictures made from one that is in another split": 1}


def test_missing_and_damaged_files_are_problems_that_name_the_first(tmp_path: Path) -> None:
    images = [image(n) for n in range(1, 8)]
    write_coco(tmp_path, coco(images, [annotation(1)], ["cat"]))
    for number in (2, 3, 4, 5):
        (tmp_path / f"{number}.png").unlink()
    (tmp_path / "6.png").write_text("no picture")
    report = check_dataset(tmp_path)
    assert [problem.partition(": ")[2] for problem in report.problems] == [
        "images without a file: 4 (2.png, 3.png, 4.png, ...)",
        "files that are no images, or damaged: 1 (6.png)",
    ]


def test_a_size_that_differs_from_the_file_is_a_problem(tmp_path: Path) -> None:
    write_coco(tmp_path, coco([image(1), image(2)], [annotation(1)], ["cat"]))
    write_picture(tmp_path / "1.png", 80, 60)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30), (9, 0, 0)).save(tmp_path / "2.png", exif=turned)
    (problem,) = check_dataset(tmp_path).problems
    assert "1.png (40 x 30, the file has 80 x 60)" in problem
    assert "2.png (40 x 30, the file has 30 x 40; turned by its EXIF orientation)" in problem


def test_malformed_annotations_and_damaged_masks_are_problems(tmp_path: Path) -> None:
    objects = [
        annotation(1, bbox=[1, 2]),
        annotation(2, image_id=2, segmentation={"size": [30, 40], "counts": "zz"}),
    ]
    write_coco(tmp_path, coco([image(1), image(2)], objects, ["cat"]))
    malformed, damaged = check_dataset(tmp_path).problems
    assert "image 1.png: annotation 1: bbox is [1, 2]" in malformed
    assert 'masks that cannot be decoded: 1 (2.png "cat"' in damaged


def test_a_split_that_cannot_be_read_leaves_the_others_checked(tmp_path: Path) -> None:
    write_coco(tmp_path / "train", coco([image(1)], [annotation(1)], ["cat"]))
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "_annotations.coco.json").write_text("{")
    report = check_dataset(tmp_path)
    assert report.splits[0].objects == 1
    (problem,) = report.problems
    assert problem.startswith("valid: not readable: 1 (") and "is not JSON" in problem


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    report = check_objects(tmp_path, annotation(1, bbox=[0, 0, 0, 0])).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["usable"] is True
    (split,) = report["splits"].values()
    assert split["notes"] == [
        {
            "what": "boxes without area, left out",
            "count": 1,
            "first": ['1.png "cat" at 0, 0, 0, 0'],
        }
    ]


def test_progress_ends_with_every_image_of_the_split(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    file = write_coco(tmp_path, coco([image(1), image(2)], [annotation(1)], ["cat"]))
    check_dataset(file, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(1, 2), (2, 2)]
