"""COCO files: every form of annotation, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conceptseg.data.concept_image import ConceptImage
from conceptseg.data.formats.annotation import read_json
from conceptseg.data.formats.coco import CocoSplit
from conceptseg.errors import DataError
from tests.data.formats.datasets import SQUARE, annotation, coco, image, rle, write_coco, write_picture

BOX = (10.0, 10.0, 30.0, 20.0)
UNCOMPRESSED = {"size": [30, 40], "counts": [310, *([10, 20] * 19), 10, 310]}


def open_coco(folder: Path, content: dict[str, Any]) -> CocoSplit:
    file = write_coco(folder, content)
    return CocoSplit(read_json(file), file, folder)


def read_one(folder: Path, **fields: Any) -> ConceptImage:
    return open_coco(folder, coco([image(1)], [annotation(1, **fields)])).read(0)


@pytest.mark.parametrize(
    "segmentation",
    [[SQUARE], SQUARE, [SQUARE, [1, 2, 3, 4]], rle(30, 40, 10, 10, 30, 20), UNCOMPRESSED],
    ids=["polygon", "flat polygon", "polygon and a part of two points", "run lengths", "plain run lengths"],
)
def test_masks_are_read_in_every_form(tmp_path: Path, segmentation: Any) -> None:
    (it,) = read_one(tmp_path, segmentation=segmentation).phrases["cat"]
    mask = it.decode(30, 40)
    assert it.box_xyxy == BOX
    assert mask is not None
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == BOX
    assert mask.sum() == 200


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2, 3, 4]]])
def test_boxes_only_have_no_mask(tmp_path: Path, segmentation: Any) -> None:
    split = open_coco(tmp_path, coco([image(1)], [annotation(1, segmentation=segmentation)]))
    (it,) = split.read(0).phrases["cat"]
    assert it.box_xyxy == BOX and it.mask is None
    assert not split.has_masks()


def test_a_mask_without_box_gets_the_box_around_it(tmp_path: Path) -> None:
    (it,) = read_one(tmp_path, bbox=None, segmentation=[SQUARE]).phrases["cat"]
    assert it.box_xyxy == BOX


def test_crowds_are_marked_and_need_no_mask(tmp_path: Path) -> None:
    objects = [annotation(1, segmentation=[SQUARE]), annotation(2, iscrowd=1), annotation(3, ignore=1)]
    split = open_coco(tmp_path, coco([image(1)], objects))
    assert [it.crowd for it in split.read(0).phrases["cat"]] == [False, True, True]
    assert split.has_masks()


def test_an_image_without_annotations_has_no_phrases(tmp_path: Path) -> None:
    split = open_coco(tmp_path, coco([image(1), image(2)], [annotation(1)]))
    assert split.read(1).phrases == {}
    assert split.samples_absent


def test_absent_phrases_of_the_data_are_kept_and_none_are_sampled(tmp_path: Path) -> None:
    images = [image(1, absent_phrases=["red  dog", "cow"]), image(2)]
    split = open_coco(tmp_path, coco(images, [annotation(1)]))
    assert split.read(0).absent_phrases == ("red dog", "cow")
    assert split.read(1).absent_phrases == ()
    assert not split.samples_absent


def test_lvis_says_what_is_absent_and_what_is_incomplete(tmp_path: Path) -> None:
    entry = image(1, neg_category_ids=[2], not_exhaustive_category_ids=[1, 3])
    found = open_coco(tmp_path, coco([entry], [annotation(1)], ["cat", "dog", "cow"])).read(0)
    assert found.absent_phrases == ("dog",)
    assert found.incomplete_phrases == {"cat"}


def test_an_image_with_only_a_web_address_is_found_by_its_name(tmp_path: Path) -> None:
    file = write_coco(tmp_path, coco([image(1)], [annotation(1)]))
    content = read_json(file)
    del content["images"][0]["file_name"]
    content["images"][0]["coco_url"] = "http://images.example.org/train2017/1.png"
    assert CocoSplit(content, file, tmp_path).image_files()[0][1] == tmp_path / "1.png"


@pytest.mark.parametrize("name", ["/data/upload/1.png", "C:\\pictures\\1.png", "upload/1.png"])
def test_folders_of_another_machine_are_forgiven(tmp_path: Path, name: str) -> None:
    file = write_coco(tmp_path, coco([image(1)], [annotation(1)]))
    content = read_json(file)
    content["images"][0]["file_name"] = name
    assert CocoSplit(content, file, tmp_path).read(0).path == tmp_path / "1.png"


def test_sizes_that_are_not_annotated_come_from_the_file(tmp_path: Path) -> None:
    entry = {"id": 1, "file_name": "1.png"}
    found = open_coco(tmp_path, coco([entry], [annotation(1)])).read(0)
    assert (found.width, found.height) == (40, 30)


def test_the_category_that_only_groups_others_is_no_phrase(tmp_path: Path) -> None:
    content = coco([image(1)], [annotation(1, category_id=2)])
    content["categories"] = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    assert open_coco(tmp_path, content).phrases == ("cat", "dog")


def test_a_supercategory_with_objects_stays_a_phrase(tmp_path: Path) -> None:
    content = coco([image(1)], [annotation(1, category_id=1)])
    content["categories"] = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 2, "name": "runner", "supercategory": "person"},
        {"id": 3, "name": "lone", "supercategory": "lone"},
    ]
    assert open_coco(tmp_path, content).phrases == ("lone", "person", "runner")


def test_two_categories_of_one_name_are_one_phrase(tmp_path: Path) -> None:
    content = coco([image(1)], [annotation(1), annotation(2, category_id=2)], ["cat", " cat "])
    split = open_coco(tmp_path, content)
    assert split.phrases == ("cat",)
    assert len(split.read(0).phrases["cat"]) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bbox": [1, 2, 3]}, "bbox is .* give"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox is"),
        ({"bbox": ["1", 2, 3, 4]}, "bbox is"),
        ({"bbox": None}, "neither bbox nor segmentation"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "polygon"),
        ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "polygon"),
        ({"segmentation": "text"}, "polygons or run lengths"),
        ({"segmentation": rle(40, 30, 1, 1, 5, 5)}, r"\[40, 30\].*\[30, 40\]"),
        ({"segmentation": {"size": [30, 40], "counts": [10, 10]}}, "add up to 20.*1,200"),
        ({"segmentation": {"size": [30, 40], "counts": None}}, "counts"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_annotation_is_refused_by_its_id(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=rf"image 1\.png: annotation 1: .*{words}"):
        read_one(tmp_path, **fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": []}, "no images"),
        ({"images": None}, 'no list "images"'),
        ({"annotations": None}, 'no list "annotations"'),
        ({"annotations": [7]}, r"annotations\[0\]"),
        ({"categories": []}, "no categories"),
        ({"categories": [{"id": 1, "name": " "}]}, "category 1 has no name"),
        ({"categories": [{"name": "cat"}]}, "no id"),
        ({"images": [image(1), image(1)]}, "given twice: 1"),
        ({"images": [{"file_name": "1.png"}]}, r"images\[0\] has no id"),
        ({"images": [{"id": 1}]}, "no file_name"),
        (
            {"annotations": [annotation(n, image_id=n) for n in range(2, 7)]},
            r"5 annotations belong to no image.*2 \(image_id 2\), .*4 .*, \.\.\.",
        ),
        ({"annotations": [annotation(5, category_id=9)]}, r"not listed: 5 \(category_id 9\)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        CocoSplit({**coco([image(1)], [annotation(1)]), **change}, tmp_path / "a.json", tmp_path)


def test_a_phrase_cannot_be_both_absent_and_annotated(tmp_path: Path) -> None:
    split = open_coco(tmp_path, coco([image(1, absent_phrases=["cat"])], [annotation(1)]))
    with pytest.raises(DataError, match='"cat" is named as absent'):
        split.read(0)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="a.json"):
        read_json(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    split = CocoSplit(coco([image(n) for n in range(1, 6)]), tmp_path / "a.json", tmp_path)
    write_picture(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"5 of 5 images have no file: 1.png, 2.png, 3.png, \.\.\..*--images"):
        split.refuse_missing_files()  # looked for when it was opened
