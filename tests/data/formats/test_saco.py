"""SA-Co files: pairs of image and phrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conceptseg.data.formats.annotation import read_json
from conceptseg.data.formats.saco import SacoSplit
from conceptseg.errors import DataError
from tests.data.formats.datasets import rle, write_coco

MASK = rle(30, 40, 10, 15, 30, 30)


def pair(number: int, phrase: str, file: str = "1/a.png", **fields: Any) -> dict[str, Any]:
    entry = {"id": number, "file_name": file, "text_input": phrase, "width": 40, "height": 30}
    return {**entry, "is_instance_exhaustive": 1, **fields}


def found(number: int, image_id: int, **fields: Any) -> dict[str, Any]:
    own = {"id": number, "image_id": image_id, "bbox": [0.25, 0.5, 0.5, 0.5], "segmentation": MASK}
    return {**own, "category_id": 1, "iscrowd": 0, **fields}


def open_saco(folder: Path, pairs: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> SacoSplit:
    categories = [{"id": 1, "name": "object"}]
    content = {"images": pairs, "annotations": annotations, "categories": categories}
    file = write_coco(folder, content, "gold.json")
    return SacoSplit(read_json(file), file, folder)


def test_pairs_of_one_picture_are_one_image(tmp_path: Path) -> None:
    pairs = [pair(1, "chili"), pair(2, "the fish ball"), pair(3, "cup", file="1/b.png")]
    split = open_saco(tmp_path, pairs, [found(1, 1), found(2, 1), found(3, 3)])
    first, second = split.read(0), split.read(1)
    assert len(split) == 2
    assert split.phrases == ("chili", "cup", "the fish ball")
    assert {phrase: len(objects) for phrase, objects in first.phrases.items()} == {"chili": 2}
    assert first.absent_phrases == ("the fish ball",)
    assert first.path == tmp_path / "1" / "a.png"
    assert (list(second.phrases), second.absent_phrases) == (["cup"], ())


def test_phrases_that_are_not_asked_are_unknown_and_not_sampled(tmp_path: Path) -> None:
    assert not open_saco(tmp_path, [pair(1, "chili")], [found(1, 1)]).samples_absent


def test_boxes_are_fractions_of_the_image(tmp_path: Path) -> None:
    split = open_saco(tmp_path, [pair(1, "chili")], [found(1, 1)])
    (it,) = split.read(0).phrases["chili"]
    assert it.box_xyxy == (10.0, 15.0, 30.0, 30.0)
    assert it.decode(30, 40).sum() == 300  # type: ignore[union-attr]
    assert split.has_masks()


def test_boxes_in_pixels_are_recognised(tmp_path: Path) -> None:
    objects = [found(1, 1, bbox=[0, 0, 1, 1]), found(2, 1, bbox=[10, 15, 20, 15])]
    boxes = [it.box_xyxy for it in open_saco(tmp_path, [pair(1, "chili")], objects).read(0).phrases["chili"]]
    assert boxes == [(0, 0, 1, 1), (10, 15, 30, 30)]


def test_pairs_that_are_not_exhaustive_are_incomplete_or_unknown(tmp_path: Path) -> None:
    pairs = [pair(1, "chili", is_instance_exhaustive=0), pair(2, "cup", is_instance_exhaustive=0)]
    image = open_saco(tmp_path, pairs, [found(1, 1)]).read(0)
    assert image.incomplete_phrases == {"chili"}
    assert (list(image.phrases), image.absent_phrases) == (["chili"], ())


def test_crowds_are_marked_under_either_name(tmp_path: Path) -> None:
    objects = [found(1, 1, iscrowd=1), found(2, 1, is_crowd=1), found(3, 1)]
    image = open_saco(tmp_path, [pair(1, "chili")], objects).read(0)
    assert [it.crowd for it in image.phrases["chili"]] == [True, True, False]


def test_a_pair_without_phrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image 2 has no text_input"):
        open_saco(tmp_path, [pair(1, "chili"), pair(2, " ")], [])


def test_a_malformed_annotation_is_refused_by_its_id(tmp_path: Path) -> None:
    split = open_saco(tmp_path, [pair(1, "chili")], [found(7, 1, bbox=[1, 2])])
    with pytest.raises(DataError, match="image 1/a.png: annotation 7: bbox"):
        split.read(0)
