"""`conceptseg data check`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.finished import Run, assert_one_error
from tests.data.formats.datasets import SQUARE, annotation, coco, image, write_coco


def write_pets(folder: Path) -> None:
    objects = [annotation(1, segmentation=[SQUARE]), annotation(2, bbox=[0, 0, 0, 5])]
    write_coco(folder / "train", coco([image(1), image(2)], objects, ["cat"]))


def test_a_usable_dataset_ends_with_zero_and_says_what_is_there(run: Run, tmp_path: Path) -> None:
    write_pets(tmp_path / "pets")
    finished = run("data", "check", "pets")
    assert (finished.code, finished.err) == (0, "")
    words = ["train", "COCO", "cat", "sampled", "masks of 1, boxes only of 1"]
    assert [word for word in words if word not in finished.out] == []
    assert 'note: train: boxes without area, left out: 1 (1.png "cat" at 0, 0, 0, 5)' in finished.out
    assert finished.out.endswith("pets can be used\n")


def test_json_is_all_that_is_printed(run: Run, tmp_path: Path) -> None:
    write_pets(tmp_path / "pets")
    finished = run("data", "check", "pets", "--split", "train", "--json")
    answer = json.loads(finished.out)
    assert answer["usable"] is True
    assert answer["splits"]["train"]["phrases"] == {"cat": {"images": 1, "objects": 2}}


def test_an_unusable_dataset_ends_with_two_and_names_the_first_offenders(run: Run, tmp_path: Path) -> None:
    write_pets(tmp_path / "pets")
    (tmp_path / "pets" / "train" / "2.png").unlink()
    for options in ([], ["--json"]):
        finished = run("data", "check", "pets", *options)
        assert finished.code == 2
        assert finished.err == ("error: pets cannot be used: train: images without a file: 1 (2.png)\n")
        assert "train" in finished.out  # what was found is still shown
    assert json.loads(finished.out)["usable"] is False


def test_images_and_annotations_can_be_given_apart(run: Run, tmp_path: Path) -> None:
    content = coco([image(1)], [annotation(1)], ["cat"])
    write_coco(tmp_path / "pets" / "pictures", content, "labels.json")
    finished = run(
        "data", "check", "pets", "--images", "pets/pictures", "--annotations", "pets/pictures/labels.json"
    )
    assert finished.code == 0


def test_what_is_no_dataset_is_one_line(run: Run, tmp_path: Path) -> None:
    assert_one_error(run("data", "check", "nowhere"), "nowhere", "no such file or folder")
    (tmp_path / "empty").mkdir()
    assert_one_error(run("data", "check", "empty"), "empty", "_annotations.coco.json", "--annotations")
    write_pets(tmp_path / "pets")
    assert_one_error(run("data", "check", "pets", "--split", "test"), '"test"', "train")
