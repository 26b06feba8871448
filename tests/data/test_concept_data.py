"""Opening datasets: formats recognised, splits chosen, images put together when they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conceptseg.data.concept_data import choose_split, open_dataset
from conceptseg.data.scenes import make_scenes
from conceptseg.errors import DataError, OptionError
from tests.data.formats.datasets import SQUARE, annotation, coco, image, write_coco, write_picture


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train: a cat, a cat and a dog, nothing; valid: a dog."""
    objects = [
        annotation(1, segmentation=[SQUARE]),
        annotation(2, image_id=2, segmentation=[SQUARE]),
        annotation(3, image_id=2, category_id=2, segmentation=[SQUARE]),
    ]
    write_coco(tmp_path / "pets" / "train", coco([image(1), image(2), image(3)], objects))
    write_coco(tmp_path / "pets" / "valid", coco([image(9)], [annotation(1, 9, 2)]))
    return tmp_path / "pets"


def test_a_split_is_a_sequence_of_images(pets: Path) -> None:
    dataset = open_dataset(pets, "train")
    assert (dataset.name, dataset.split, dataset.layout) == ("pets", "train", "COCO")
    assert dataset.phrases == ("cat", "dog")
    assert dataset.has_masks
    assert [sorted(it.phrases) for it in dataset] == [["cat"], ["cat", "dog"], []]
    assert dataset[-1].path == pets / "train" / "3.png"
    assert [it.path.name for it in dataset[:2]] == ["1.png", "2.png"]
    with pytest.raises(IndexError):
        dataset[3]


def test_absent_phrases_are_sampled_from_the_other_categories(pets: Path) -> None:
    first, both, empty = open_dataset(pets, "train")
    assert first.absent_phrases == ("dog",)
    assert empty.absent_phrases == ("cat", "dog")
    assert len(both.absent_phrases) == 3  # it shows every category, so rare things are asked for
    assert [it.absent_phrases for it in open_dataset(pets, "train", absent=1)][0] == ("dog",)
    assert not any(it.absent_phrases for it in open_dataset(pets, "train", absent=0))


def test_an_image_is_the_same_whenever_it_is_read(pets: Path) -> None:
    assert list(open_dataset(pets, "train")) == list(open_dataset(pets, "train"))


def test_boxes_only_has_no_masks(pets: Path) -> None:
    assert not open_dataset(pets, "valid").has_masks


def test_boxes_are_cut_off_at_the_edge_and_objects_outside_left_out(tmp_path: Path) -> None:
    boxes = [[-5, 10, 20, 10], [30, 20, 20, 20], [50, 0, 5, 5], [3, 3, 0, 8], [9, 9, 4, -4]]
    objects = [annotation(n, bbox=box) for n, box in enumerate(boxes)]
    write_coco(tmp_path, coco([image(1)], [*objects, annotation(9, category_id=2, bbox=[0, 0, 0, 0])]))
    (found,) = open_dataset(tmp_path)
    assert [it.box_xyxy for it in found.phrases["cat"]] == [(0, 10, 15, 20), (30, 20, 40, 30)]
    # The dog is annotated without a place: neither there to be found nor absent.
    assert "dog" not in found.phrases and "dog" not in found.absent_phrases


def test_scenes_are_read_with_their_own_absent_phrases(tmp_path: Path) -> None:
    annotations = make_scenes(tmp_path / "scenes", 2, seed=3, size=64)
    written = json.loads(annotations.read_text())
    dataset = open_dataset(tmp_path / "scenes")
    assert dataset.has_masks and dataset.split == "train"
    for found, entry in zip(dataset, written["images"], strict=True):
        assert list(found.absent_phrases) == entry["absent_phrases"]
        for it in (it for objects in found.phrases.values() for it in objects):
            mask = it.decode(64, 64)
            assert mask is not None
            rows, columns = np.nonzero(mask)
            assert it.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["train", "valid"], None, "valid"),
        (["train", "val", "test"], None, "val"),
        (["train", "test"], None, "test"),
        (["train"], None, "train"),
        (["train", "val"], "valid", "val"),
        (["train", "valid"], "validation", "valid"),
        (["train", "valid", "val"], "val", "val"),
        (["train", "valid"], "train", "train"),
    ],
)
def test_the_split_that_is_meant(names: list[str], wanted: str | None, chosen: str) -> None:
    assert choose_split(names, wanted, "data") == chosen


def test_a_split_that_is_not_there_is_refused_with_those_that_are(pets: Path) -> None:
    with pytest.raises(DataError, match='no split "test"; it has the splits train, valid'):
        open_dataset(pets, "test")
    with pytest.raises(DataError, match="has the splits one, two; choose one"):
        choose_split(["one", "two"], None, "data")


@pytest.mark.parametrize("folder", ["valid2017", "images/valid2017", "images", "."])
def test_the_official_layout_of_coco_is_found(tmp_path: Path, folder: str) -> None:
    content = coco([image(1)], [annotation(1)])
    write_coco(tmp_path / "annotations", content, "instances_valid2017.json")
    (tmp_path / "annotations" / "1.png").unlink()
    file = write_picture(tmp_path / folder / "1.png")
    dataset = open_dataset(tmp_path)
    assert dataset.split == "valid2017"
    assert dataset[0].path.resolve() == file.resolve()


def test_annotations_and_images_may_lie_apart(tmp_path: Path) -> None:
    content = coco([image(1)], [annotation(1)])
    write_coco(tmp_path / "labels", content, "cats.json")
    (tmp_path / "labels" / "1.png").rename(write_picture(tmp_path / "pictures" / "1.png"))
    with pytest.raises(DataError, match="1 of 1 images have no file: 1.png; .*--images"):
        open_dataset(tmp_path / "labels" / "cats.json")
    for dataset in (
        open_dataset(tmp_path / "labels" / "cats.json", images=tmp_path / "pictures"),
        open_dataset(tmp_path, images=tmp_path / "pictures", annotations=tmp_path / "labels" / "cats.json"),
        open_dataset(tmp_path, images="pictures", annotations="labels/cats.json"),
    ):
        assert dataset[0].path == tmp_path / "pictures" / "1.png"
        assert dataset.split == "cats"
    named = open_dataset(tmp_path, "train", images="pictures", annotations="labels/cats.json")
    assert named.split == "train"


def test_images_given_apart_serve_every_split(pets: Path, tmp_path: Path) -> None:
    for split, number in (("train", 1), ("train", 2), ("train", 3), ("valid", 9)):
        (pets / split / f"{number}.png").rename(write_picture(tmp_path / "all" / split / f"{number}.png"))
    assert open_dataset(pets, "valid", images=tmp_path / "all")[0].path.parent == tmp_path / "all" / "valid"


def test_what_is_no_dataset_is_refused_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(DataError, match=r"there is labels.json.*_annotations.coco.json.*--annotations"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere.json: no such file of annotations"):
        open_dataset(tmp_path, annotations="nowhere.json")
    with pytest.raises(DataError, match="nowhere: no such folder of images"):
        open_dataset(tmp_path, images="nowhere")
    with pytest.raises(OptionError, match="absent is -1"):
        open_dataset(tmp_path, absent=-1)
