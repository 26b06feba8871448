"""X-AnyLabeling-Server's contract (its docs/router.md and docs/user_guide.md), as its client speaks it."""

import base64

import numpy as np
import pytest

from tests.serving.conftest import assert_problem

SHAPE = {  # field -> whether a value is what the contract says
    "label": lambda v: isinstance(v, str),
    "shape_type": lambda v: v in ("polygon", "rectangle"),
    "points": lambda v: len(v) >= 3 and all(len(point) == 2 for point in v),
    "score": lambda v: 0 <= v <= 1,
    "attributes": lambda v: v == {},
    "description": lambda v: v is None,
    "difficult": lambda v: v is False,
    "direction": lambda v: v == 0,
    "flags": lambda v: v is None,
    "group_id": lambda v: v is None or v > 0,
    "kie_linking": lambda v: v == [],
}


@pytest.fixture
def predict(client, photo):
    def predict(image=None, model="tiny.pt", **params):
        content = base64.b64encode(photo).decode() if image is None else image
        response = client.post("/v1/predict", json={"model": model, "image": content, "params": params})
        assert response.status_code == 200
        return response.json()

    return predict


def test_health(client):
    health = client.get("/health").json()
    assert set(health) == {"status", "models_loaded", "timestamp"}
    assert (health["status"], health["models_loaded"]) == ("healthy", 1) and health["timestamp"].endswith("Z")


def test_models_are_listed_by_id_with_their_widgets(client):
    listed = client.get("/v1/models").json()
    assert listed["success"] is True and list(listed["data"]) == ["tiny.pt"]
    model = listed["data"]["tiny.pt"]
    widgets = {widget["name"]: widget["value"] for widget in model["widgets"]}
    assert {"edit_text", "button_send", "add_pos_rect", "add_neg_rect", "mask_fineness_slider"} <= set(
        widgets
    )
    assert widgets["toggle_preserve_existing_annotations"] is True and 0 < widgets["edit_conf"] < 1
    assert model["batch_processing_mode"] == "text_prompt"
    info = client.get("/v1/models/tiny.pt/info").json()
    assert info == {"success": True, "data": {"model_id": "tiny.pt", **model}}


def test_an_unknown_model_is_an_error_with_status_200(client, predict):
    unknown = client.get("/v1/models/zebra/info")
    assert unknown.status_code == 200
    for answer in (unknown.json(), predict(model="zebra")):
        assert answer["success"] is False and answer["error"]["code"] == "MODEL_NOT_FOUND"
        assert "zebra" in answer["error"]["message"]


def test_phrases_become_polygons_that_cover_the_masks(predict, tiny_segmenter, picture):
    answer = predict(text_prompt="coin, key", conf_threshold=0.1, epsilon_factor=0)
    assert answer["success"] is True and answer["data"]["description"] == ""
    for shape in answer["data"]["shapes"]:
        assert set(shape) == set(SHAPE)
        assert [name for name, right in SHAPE.items() if not right(shape[name])] == []
        assert shape["points"][0] == shape["points"][-1]
    results = tiny_segmenter.segment(picture, ["coin", "key"], threshold=0.1)
    for result in results:
        mine = [shape for shape in answer["data"]["shapes"] if shape["label"] == result.phrase]
        area = sum(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 for x, y in (
            np.array(shape["points"][:-1]).T for shape in mine
        ))  # fmt: skip
        assert area == pytest.approx(result.masks.sum())


def test_rectangles_are_examples_and_their_objects_get_the_client_s_placeholder(
    predict, tiny_segmenter, picture
):
    marks = [
        {"type": "rectangle", "data": [40, 40, 10, 10], "label": 1},  # drawn from its lower right
        {"type": "rectangle", "data": [50, 20, 80, 50], "label": 0},
    ]
    shapes = predict(marks=marks, conf_threshold=0.1, show_boxes=True, show_masks=False)["data"]["shapes"]
    boxes = [[10, 10, 40, 40], [50, 20, 80, 50]]
    result = tiny_segmenter.segment(picture, boxes=boxes, labels=[1, 0], threshold=0.1)
    assert {shape["label"] for shape in shapes} == {"AUTOLABEL_OBJECT"}
    found = np.array([[*shape["points"][0], *shape["points"][2]] for shape in shapes])
    np.testing.assert_allclose(found, result.boxes, atol=0.01)


def test_a_data_uri_is_read_as_bare_base64_is(predict, photo):
    uri = "data:image/png;base64," + base64.b64encode(photo).decode()
    assert predict(uri, text_prompt="coin") == predict(text_prompt="coin")


def test_errors_have_a_code_and_keep_what_was_annotated(predict, photo):
    for answer, code, words in (
        (predict("no base64!"), "INVALID_IMAGE", "base64"),
        (predict(base64.b64encode(photo[:99]).decode(), text_prompt="coin"), "INVALID_IMAGE", "damaged"),
        (predict(), "INFERENCE_ERROR", "nothing was asked"),
        (predict(text_prompt="coin", conf_threshold="high"), "INFERENCE_ERROR", "conf_threshold"),
    ):
        assert answer["success"] is False and answer["error"]["code"] == code
        assert words in answer["error"]["message"] and answer["data"]["replace"] is False


def test_a_body_without_an_image_is_a_problem(client):
    assert_problem(client.post("/v1/predict", json={"model": "tiny.pt"}), 422, "image")
