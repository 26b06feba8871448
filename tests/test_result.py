import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.errors import InstanceIndexError, MissingDependencyError, OptionError, ShapeError
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


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_takes_compact_masks(picture, monkeypatch):
    supervision = pytest.importorskip("supervision", minversion="0.28")
    for count in (2, 0):
        result = make_result(picture, count=count)
        masks = result.to_supervision(compact=True).mask
        assert isinstance(masks, supervision.CompactMask)
        assert np.array_equal(masks.to_dense(), result.masks)
    empty = make_result(picture, masks=np.zeros((2, 60, 90), bool))
    assert not empty.to_supervision(compact=True).mask.to_dense().any()
    monkeypatch.delattr(supervision, "CompactMask")
    with pytest.raises(MissingDependencyError, match="needs supervision 0.28 or newer: pip install -U"):
        result.to_supervision(compact=True)


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
    with pytest.raises(OptionError, match="cannot be written: embedded null byte"):
        result.save(tmp_path / "a\0.png")
    with pytest.raises(OptionError, match="does not hold its image"):
        dataclasses.replace(result, image=None).plot()


def test_a_result_is_a_sequence_of_its_objects(picture):
    result = make_result(picture, count=3, masks=np.arange(3 * 60 * 90).reshape(3, 60, 90) % 7 == 0)
    for which, rows in (
        (1, [1]),
        (-1, [2]),
        (np.int64(0), [0]),
        (slice(2), [0, 1]),
        ([2, 0], [2, 0]),
        ([], []),
        (result.scores > 0.7, [0, 1]),
        ([False, False, True], [2]),
    ):
        some = result[which]
        assert len(some) == len(rows) and some.masks.shape == (len(rows), 60, 90)
        assert np.array_equal(some.masks, result.masks[rows])
        assert np.array_equal(some.boxes, result.boxes[rows]) and np.array_equal(
            some.scores, result.scores[rows]
        )
        assert np.array_equal(some.class_scores, result.class_scores[rows])
        assert some.phrases == ("red circle",) * len(rows) and some.image is result.image
    assert [float(one.scores[0]) for one in result] == result.scores.tolist()
    assert list(result[:0]) == []


@pytest.mark.parametrize("which", [2, -3, [0, 2], [True], 0.5, True, "cat", np.ones((2, 2), bool), [0.5]])
def test_what_chooses_no_objects_is_an_error(picture, which):
    with pytest.raises(InstanceIndexError, match="fit a result of 2 objects|chooses no objects"):
        make_result(picture)[which]


def test_results_of_one_image_join_best_first_and_keep_their_phrases(picture):
    cat, dog = make_result(picture, "cat", presence=0.3), make_result(picture, "dog", count=1, presence=0.8)
    joined = Result.concat([dog[:0], cat, dog])
    assert joined.phrase == "dog, cat" and joined.presence == 0.8 and joined.image is picture
    assert joined.phrases == ("cat", "dog", "cat") and joined.scores.tolist() == pytest.approx(
        [0.9, 0.9, 0.6]
    )
    assert np.array_equal(joined.masks, np.stack([cat.masks[0], dog.masks[0], cat.masks[1]]))
    again = Result.concat([cat[1:], cat[:1]])
    assert again.phrase == "cat" and np.array_equal(again.masks, cat.masks)
    assert np.array_equal(again.scores, cat.scores)


def test_joined_results_are_written_under_their_phrases(picture):
    cat, dog = make_result(picture, "cat"), make_result(picture, "dog", count=1)
    dataset = Result.concat([cat, dog]).to_coco()
    assert [category["name"] for category in dataset["categories"]] == ["cat", "dog"]
    assert [annotation["category_id"] for annotation in dataset["annotations"]] == [1, 2, 1]
    assert dataset["presence"] == []  # of each phrase it is no longer known
    overlay = np.asarray(Result.concat([cat, dog[:0]]).plot())
    assert overlay[10, 45].tolist() == list(PALETTE[1])  # one phrase: a colour per object
    overlay = np.asarray(Result.concat([cat, make_result(picture, "dog", scores=cat.scores / 2)]).plot())
    assert overlay[10, 45].tolist() == list(PALETTE[0])  # two: a colour per phrase


def test_joining_keeps_the_example_boxes_once(picture):
    one, other = (
        check_boxes([box], [label], (60, 90)) for box, label in (([1, 2, 9, 9], 1), ([5, 5, 20, 20], 0))
    )
    parts = [make_result(picture, examples=examples) for examples in (one, one, other, None)]
    assert Result.concat(parts).examples.labels.tolist() == [1, 0]


def test_results_of_different_images_do_not_join(picture):
    result = make_result(picture)
    small = make_result(picture[:30], image_size=(30, 90), masks=result.masks[:, :30])
    for other in (small, make_result(picture[::-1].copy())):
        with pytest.raises(OptionError, match="these results are of different images; join those of each"):
            Result.concat([result, other])
    with pytest.raises(OptionError, match="there is no result to join"):
        Result.concat([])


def test_masks_are_kept_compact_and_given_whole(picture):
    masks = np.zeros((100, 3024, 40), dtype=bool)
    masks[:, 100:200, 10:30] = True
    result = make_result(
        np.zeros((3024, 40, 3), np.uint8),
        image_size=(3024, 40),
        masks=masks,
        **{
            name: np.zeros((100, *size), np.float32)
            for name, size in (("boxes", (4,)), ("scores", ()), ("class_scores", ()))
        },
    )
    assert result.masks.dtype == np.bool_ and np.array_equal(result.masks, masks)
    assert sum(runs.nbytes for runs in result.compact_masks.runs) < masks.nbytes / 300
    assert np.array_equal(dataclasses.replace(result, image=None).masks, masks)


def test_parts_that_disagree_in_number_are_an_error(picture):
    with pytest.raises(ShapeError, match="a result has 2 scores and 1 masks"):
        make_result(picture, masks=np.zeros((1, 60, 90), bool))


def test_a_result_says_what_it_is(picture):
    result = make_result(picture)
    assert repr(result) == "Result('red circle': 2 in 90 x 60 image, best score 0.90, presence 0.97)"
    assert len(result) == 2
