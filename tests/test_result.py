import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.errors import MissingDependencyError, OptionError
from conceptseg.formats import coco_dataset
from conceptseg.plots import PALETTE, draw_results, instance_color
from conceptseg.prompts import check_boxes
from conceptseg.result import Result


def make_result(picture, phrase="red circle", count=2, **changes):
    masks = np.zeros((count, 60, 90), dtype=bool)
    for i in range(count):
        masks[i, 10 : 30 + i, 5 + 40 * i : 25 + 40 * i] = True
    boxes = np.array([[5 + 40 * i, 10, 25 + 40 * i, 30 + i] for i in range(count)], dtype=np.float32).reshape(
        -1, 4
    )
    scores = np.linspace(0.9, 0.6, count, dtype=np.float32)
    values = dict(
        phrase=phrase,
        image_size=(60, 90),
        masks=masks,
        boxes=boxes,
        scores=scores,
        class_scores=scores,
        presence=0.97,
        presence_logit=3.5,
        image=picture,
    )
    return Result(**{**values, **changes})


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # inside pycocotools
def test_coco_holds_masks_boxes_scores_and_the_phrase(picture):
    result = make_result(picture)
    dataset = json.loads(json.dumps(result.to_coco()))
    assert dataset["images"] == [{"id": 1, "file_name": "image", "width": 90, "height": 60}]
    assert dataset["categories"] == [{"id": 1, "name": "red circle"}]
    assert dataset["presence"] == [{"image_id": 1, "category_id": 1, "presence": 0.97}]
    second = dataset["annotations"][1]
    assert (
        second["bbox"] == [45, 10, 20, 21]
        and second["area"] == 20 * 21
        and second["score"] == pytest.approx(0.6)
    )
    for annotation, mask in zip(dataset["annotations"], result.masks, strict=True):
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]), mask)


def test_coco_of_nothing_still_names_image_and_phrase(picture):
    dataset = make_result(picture, count=0, presence=0.02).to_coco()
    assert dataset["annotations"] == [] and dataset["categories"][0]["name"] == "red circle"
    assert dataset["presence"][0]["presence"] == 0.02


def test_coco_of_many_results_shares_images_and_phrases(picture, tmp_path):
    a, b = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    results = [make_result(picture, p, path=path) for path in (a, b) for p in ("cat", "dog")]
    dataset = coco_dataset(results)
    assert [image["file_name"] for image in dataset["images"]] == [
        a.as_posix(),
        b.as_posix(),
    ]  # names alone would clash
    assert [category["name"] for category in dataset["categories"]] == ["cat", "dog"]
    assert [annotation["id"] for annotation in dataset["annotations"]] == list(range(1, 9))
    assert coco_dataset(results[:2])["images"][0]["file_name"] == "x.png"


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_gets_boxes_masks_scores_and_names(picture):
    pytest.importorskip("supervision")
    for count in (2, 0):
        result = make_result(picture, count=count)
        detections = result.to_supervision()
        assert len(detections) == count
        assert np.array_equal(detections.xyxy, result.boxes) and np.array_equal(detections.mask, result.masks)
        assert np.array_equal(detections.confidence, result.scores)
        assert list(detections.data["class_name"]) == ["red circle"] * count


def test_supervision_that_is_not_installed_is_named(picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        make_result(picture).to_supervision()


def test_overlay_has_the_size_of_the_image_and_colours_inside_the_masks_only(picture):
    result = make_result(picture)
    overlay = np.asarray(result.plot())
    assert overlay.shape == picture.shape
    inside = result.masks.any(axis=0)
    changed = (overlay != picture).any(axis=2)
    assert changed[inside].mean() > 0.99
    assert not changed[40:].any()
    assert overlay[10, 5].tolist() == list(PALETTE[0])  # outline in full colour
    assert np.array_equal(picture, result.image)  # and the image itself is left alone


def test_overlay_of_nothing_of_a_pixel_and_of_whole_masks_can_be_drawn(picture):
    assert make_result(picture, count=0).plot().size == (90, 60)
    for size in ((1, 1), (1, 3000), (200, 200)):
        full = make_result(
            np.zeros((*size, 3), np.uint8),
            count=1,
            image_size=size,
            masks=np.ones((1, *size), bool),
            boxes=np.array([[-5.0, -5.0, size[1] + 5.0, size[0] + 5.0]], np.float32),
        )
        assert full.plot().size == size[::-1]


def test_overlay_shows_example_boxes_green_for_like_and_red_for_not_like(picture):
    grey = np.full((200, 200, 3), 128, np.uint8)
    result = make_result(
        grey,
        count=0,
        image_size=(200, 200),
        masks=np.zeros((0, 200, 200), bool),
        examples=check_boxes([[20, 60, 80, 120], [110, 60, 170, 120]], [1, 0], (200, 200)),
    )
    overlay = np.asarray(result.plot()).astype(int)
    left, right = overlay[60, 20:80], overlay[60, 110:170]
    assert (left[:, 1] - left[:, 0]).max() > 100 and (right[:, 0] - right[:, 1]).max() > 100


def test_overlay_of_several_phrases_colours_by_phrase(picture):
    cat, dog = make_result(picture, "cat"), make_result(picture, "dog", count=1)
    overlay = np.asarray(draw_results([cat, dog]))
    assert overlay[10, 45].tolist() == list(PALETTE[0])  # second cat
    assert overlay[29, 5].tolist() == list(PALETTE[0])  # where both lie, the first phrase is on top
    with pytest.raises(OptionError, match="different images"):
        draw_results([cat, make_result(picture[::-1].copy())])
    with pytest.raises(OptionError, match="no result"):
        draw_results([])


def test_colours_of_many_objects_are_all_different():
    assert len({instance_color(i) for i in range(200)}) == 200


@pytest.mark.parametrize("name", ["overlay.png", "deep/er/overlay.JPG", "overlay.webp"])
def test_save_writes_the_overlay_and_makes_folders(picture, tmp_path, name):
    path = make_result(picture).save(tmp_path / name)
    with Image.open(path) as image:
        assert image.size == (90, 60)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_save_writes_coco_json(picture, tmp_path):
    result = make_result(picture)
    assert json.loads(result.save(tmp_path / "result.json").read_text()) == result.to_coco()


def test_save_elsewhere_is_one_clear_error(picture, tmp_path):
    result = make_result(picture)
    with pytest.raises(
        OptionError, match=r"overlay.bmp must end in .png, .jpg, .jpeg, .webp \(overlay\) or .json"
    ):
        result.save(tmp_path / "overlay.bmp")
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="cannot be written"):
        result.save(tmp_path / "file" / "overlay.png")
    with pytest.raises(OptionError, match="does not hold its image"):
        dataclasses.replace(result, image=None).plot()


def test_a_result_says_what_it_is(picture):
    result = make_result(picture)
    assert repr(result) == "Result('red circle': 2 in 90 x 60 image, best score 0.90, presence 0.97)"
    assert len(result) == 2
