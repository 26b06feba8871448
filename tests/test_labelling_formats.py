import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.data.concept_data import open_dataset
from conceptseg.errors import OptionError
from conceptseg.labelling_formats import brush_rle
from conceptseg.result import Result

SIZE_HW = (60, 90)


@pytest.fixture
def result(tmp_path) -> Result:
    """A frame with a hole, two squares as one object, and one without a mask whose box reaches outside."""
    masks = np.zeros((3, *SIZE_HW), dtype=bool)
    masks[0, 10:40, 5:35] = True
    masks[0, 20:30, 15:25] = False
    masks[1, 5:25, 60:80] = masks[1, 35:50, 45:60] = True
    boxes = np.array([[5, 10, 35, 40], [45, 5, 80, 50], [70, 40, 95, 70]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    images = tmp_path / "images" / "train"
    images.mkdir(parents=True)
    Image.new("RGB", SIZE_HW[::-1]).save(images / "shelf.png")
    return Result(
        phrase="frame",
        image_size=SIZE_HW,
        masks=masks,
        boxes=boxes,
        scores=scores,
        class_scores=scores,
        presence=0.9,
        presence_logit=2.0,
        path=images / "shelf.png",
        phrases=("frame", "square", "square"),
    )


def write_yolo(result: Result, lines: str) -> None:
    """Beside the image, as data.yaml of a training set says."""
    assert result.path is not None
    root = result.path.parents[2]
    labels = root / "labels" / "train" / "shelf.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(lines)
    (root / "data.yaml").write_text("train: images/train\nnames: [frame, square]\n")


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def test_yolo_polygons_are_read_back_as_the_same_masks(result):
    write_yolo(result, result.to_yolo())
    image = open_dataset(result.path.parents[2], split="train")[0]
    (frame,), (squares,) = (
        image.phrases["frame"],
        image.phrases["square"],
    )  # the object without a mask is left out
    assert np.array_equal(frame.decode(*SIZE_HW), result.masks[0])
    assert overlap(squares.decode(*SIZE_HW).astype(bool), result.masks[1]) > 0.9  # the line between its parts


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_reads_the_yolo_polygons(result):
    supervision = pytest.importorskip("supervision")
    write_yolo(result, result.to_yolo())
    root = result.path.parents[2]
    dataset = supervision.DetectionDataset.from_yolo(
        str(root / "images/train"), str(root / "labels/train"), str(root / "data.yaml"), force_masks=True
    )
    _, _, found = dataset[0]
    assert found.class_id.tolist() == [0, 1] and dataset.classes == ["frame", "square"]
    assert overlap(found.mask[0], result.masks[0]) > 0.8  # it fills the polygon's own pixels too


def test_yolo_boxes_end_at_the_image(result):
    first, _, third = result.to_yolo(["square", "frame"], boxes=True).splitlines()
    assert first == "1 0.222222 0.416667 0.333333 0.5"
    assert third == "0 0.888889 0.833333 0.222222 0.333333"


def test_coco_boxes_end_at_the_image(result):
    assert [it["bbox"] for it in result.to_coco()["annotations"]][2] == [70, 40, 20, 20]


def test_a_phrase_that_is_no_class_is_named(result):
    with pytest.raises(OptionError, match="'square' is none of the classes 'frame', 'cat'"):
        result.to_yolo(["frame", "cat"])
    with pytest.raises(OptionError, match="tolerance -1 must be 0 or more pixels"):
        result.to_labelme(tolerance=-1)


def test_labelme_has_a_polygon_for_each_part_and_its_documented_fields(result):
    content = json.loads(json.dumps(result.to_labelme()))
    assert content["imagePath"] == "shelf.png" and content["imageData"] is None
    assert (content["imageHeight"], content["imageWidth"]) == SIZE_HW
    assert [shape["label"] for shape in content["shapes"]] == ["frame", "square", "square"]
    assert [shape["group_id"] for shape in content["shapes"]] == [None, 1, 1]
    for shape in content["shapes"]:
        assert shape["shape_type"] == "polygon" and shape["flags"] == {} and shape["description"] == ""
    rles = [
        coco_mask.frPyObjects([np.ravel(shape["points"]).tolist()], *SIZE_HW)[0]
        for shape in content["shapes"]
    ]
    assert np.array_equal(coco_mask.decode(rles[0]), result.masks[0])
    assert np.array_equal(coco_mask.decode(coco_mask.merge(rles[1:])), result.masks[1])


def test_a_label_studio_task_has_its_documented_fields(result):
    task = json.loads(json.dumps(result.to_label_studio("/data/shelf.png", from_name="tag", to_name="img")))
    assert task["data"] == {"img": "/data/shelf.png"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(0.8)
    first = prediction["result"][0]
    assert (first["type"], first["from_name"], first["to_name"]) == ("polygonlabels", "tag", "img")
    assert (first["original_width"], first["original_height"]) == (90, 60)
    assert first["value"]["polygonlabels"] == ["frame"]
    assert np.max(first["value"]["points"], axis=0) == pytest.approx([100 * 35 / 90, 100 * 40 / 60])
    assert len({region["id"] for region in prediction["result"]}) == 3


def test_label_studio_boxes_are_in_percent(result):
    found = result.to_label_studio(regions="boxes")["predictions"][0]["result"]
    value = found[2]["value"]
    assert value.pop("rectanglelabels") == ["square"]
    assert value == pytest.approx(
        {"x": 700 / 9, "y": 200 / 3, "width": 200 / 9, "height": 100 / 3, "rotation": 0}
    )


def test_label_studio_tasks_of_nothing_and_of_unknown_regions(result):
    task = result[:0].to_label_studio()
    assert task["predictions"] == [{"model_version": "conceptseg", "result": []}]
    with pytest.raises(OptionError, match="unknown regions 'masks'; choose 'polygons', 'brush', 'boxes'"):
        result.to_label_studio(regions="masks")


def decoded_brush(data: list[int]) -> np.ndarray:
    """The values that packed run lengths stand for, read as their JavaScript original reads them."""
    bits, at = "".join(f"{byte:08b}" for byte in data), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    values: list[int] = []
    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    while len(values) < total:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values)


def test_brush_strokes_hold_every_pixel(result):
    found = result.to_label_studio(regions="brush")["predictions"][0]["result"]
    assert len(found) == 2 and all(region["value"]["format"] == "rle" for region in found)
    for region, mask in zip(found, result.masks[:2], strict=True):
        alpha = decoded_brush(region["value"]["rle"]).reshape(*SIZE_HW, 4)[:, :, 3]
        assert np.array_equal(alpha == 255, mask)


def test_brush_strokes_of_long_runs():
    mask = np.zeros((200, 300), dtype=bool)
    mask[:90] = True  # 108,000 values, more than one run can be long
    assert np.array_equal(decoded_brush(brush_rle(mask)).reshape(200, 300, 4)[:, :, 0] > 0, mask)
