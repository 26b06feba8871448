"""The service's own endpoints, by HTTP."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.serving.conftest import assert_problem, segment

BOX = [10, 10, 40, 40]


@pytest.fixture(scope="module")
def picture_id(client):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return client.post("/v1/images", files={"image": file.getvalue()}).json()["id"]


def test_an_answer_is_what_the_library_says(client, tiny_segmenter, picture, photo):
    response = segment(client, photo, text=["coin", "red circle"], boxes=[BOX], labels=[0], threshold=0.1)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["image"]["width"], answer["image"]["height"]) == (90, 60)
    expected = tiny_segmenter.segment(
        picture, text=["coin", "red circle"], boxes=[BOX], labels=[0], threshold=0.1
    )
    assert [concept["phrase"] for concept in answer["results"]] == ["coin", "red circle"]
    for concept, result in zip(answer["results"], expected, strict=True):
        assert len(concept["instances"]) == len(result) > 0
        assert concept["presence"] == pytest.approx(result.presence, abs=1e-5)
        for number, instance in enumerate(concept["instances"]):
            assert instance["score"] == pytest.approx(float(result.scores[number]), abs=1e-5)
            np.testing.assert_allclose(instance["box"], result.boxes[number], atol=0.02)
            decoded = coco_mask.decode({k: instance["mask"][k] for k in ("size", "counts")})
            assert (decoded.astype(bool) == result[number].masks[0]).all()
            assert instance["area"] == decoded.sum()


def test_masks_come_as_polygons_or_pictures_when_asked_for(client, photo):
    rle, png, polygon = (
        segment(client, photo, text="coin", threshold=0.1, mask_format=kind, tolerance=0).json()["results"][0]
        for kind in ("rle", "png", "polygon")
    )
    areas = [instance["area"] for instance in rle["instances"]]
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(instance["mask"]["data"]))) for instance in png["instances"]
    ]
    assert [int(np.asarray(one).sum()) for one in pictures] == areas
    assert {one.size for one in pictures} == {(90, 60)}
    for instance, area in zip(polygon["instances"], areas, strict=True):
        total = sum(
            np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
            for x, y in (np.array(part).T for part in instance["mask"]["polygons"])
        )
        assert abs(total) / 2 == pytest.approx(area)


def test_an_image_is_sent_once_and_asked_many_times(client, photo):
    info = client.post("/v1/images", files={"image": photo})
    assert info.status_code == 201
    first = client.post(f"/v1/images/{info.json()['id']}/segment", json={"text": "coin", "threshold": 0.1})
    again = client.post(f"/v1/images/{info.json()['id']}/segment", json={"text": "coin", "threshold": 0.1})
    assert first.json() == again.json() == segment(client, photo, text="coin", threshold=0.1).json()


def test_an_exemplar_of_one_image_is_found_in_another(client, tiny_segmenter, picture, photo, picture_id):
    made = client.post("/v1/exemplars", files={"image": photo}, data={"prompt": json.dumps({"boxes": [BOX]})})
    assert made.status_code == 201 and made.json()["positive"] == 1
    by_id = client.post(
        "/v1/exemplars",
        data={
            "image_id": picture_id,
            "prompt": json.dumps({"boxes": [BOX, [5, 5, 30, 30]], "labels": [1, 0]}),
        },
    )
    assert (by_id.json()["positive"], by_id.json()["negative"]) == (1, 1)
    asked = client.post(
        f"/v1/images/{picture_id}/segment", json={"exemplar": made.json()["id"], "threshold": 0}
    )
    assert asked.json()["results"][0]["phrase"] == "visual"
    both = client.post(
        f"/v1/images/{picture_id}/segment",
        json={"exemplar": [made.json()["id"], by_id.json()["id"]], "threshold": 0},
    )
    assert both.json()["results"][0]["presence_logit"] != asked.json()["results"][0]["presence_logit"]


def test_mistakes_end_in_the_library_s_own_words(client, photo):
    assert_problem(segment(client, photo), 422, "nothing was asked")
    assert_problem(segment(client, photo, text=""), 422, "text is empty")
    assert_problem(segment(client, photo, boxes=[[40, 12, 38, 90]]), 422, "x1 <= x0", "90 x 60")
    assert_problem(segment(client, photo, text="coin", labels=[1]), 422, "labels has 1 entries")
    assert_problem(segment(client, photo, text="coin", threshold=2), 422, "threshold 2")
    assert_problem(segment(client, photo, text="coin", max_instances=0), 422, "max_instances")
    assert_problem(segment(client, photo, text="coin", presense="ignore"), 422, "presense")
    assert_problem(segment(client, photo, text=["coin"] * 33), 422, "33 phrases", "at most 32")
    assert_problem(segment(client, b"no image", text="coin"), 422, "not an image file")
    assert_problem(segment(client, b"", text="coin"), 422, "empty")
    assert_problem(segment(client, photo[:200], text="coin"), 422, "damaged")
    not_json = client.post("/v1/segment", files={"image": photo}, data={"prompt": "{coin"})
    assert_problem(not_json, 422, "prompt")
    assert_problem(client.post("/v1/segment", data={"prompt": "{}"}), 422, "image")
    assert_problem(client.get("/v1/segment"), 405)
    assert_problem(client.get("/v1/nothing"), 404, "/v1/nothing")


def test_paths_and_addresses_are_not_read(client, photo):
    for given in ("/etc/hostname", "http://127.0.0.1/photo.png", "file:///etc/hostname"):
        sent = client.post("/v1/segment", data={"image": given, "prompt": '{"text": "coin"}'})
        assert_problem(sent, 422, "image")
        asked = client.post("/v1/predict", json={"model": "tiny.pt", "image": given}).json()
        assert asked["error"]["code"] == "INVALID_IMAGE"


def test_unknown_ids_are_404(client, picture_id):
    assert_problem(client.post("/v1/images/abc/segment", json={"text": "coin"}), 404, "send it again")
    asked = client.post(f"/v1/images/{picture_id}/segment", json={"exemplar": "abc"})
    assert_problem(asked, 404, "exemplar abc")


def test_export_writes_what_is_shown(client, photo):
    answer = segment(client, photo, text=["coin", "key"], threshold=0.1).json()
    results = []
    for concept in answer["results"]:
        instances = []
        for instance in concept["instances"][:2]:
            mask = coco_mask.decode({k: instance["mask"][k] for k in ("size", "counts")})
            changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0))
            counts = np.diff(changes, prepend=0, append=mask.size).tolist()
            instances.append({"box": instance["box"], "score": instance["score"], "counts": counts})
        results.append({"phrase": concept["phrase"], "presence": 0.5, "instances": instances})
    wanted = {"file_name": "../a/photo.png", "width": 90, "height": 60, "results": results}
    coco = client.post("/v1/export", json={"format": "coco", **wanted})
    assert coco.headers["content-disposition"] == 'attachment; filename="photo.coco.json"'
    assert coco.json()["images"][0]["file_name"] == "photo.png"
    assert [category["name"] for category in coco.json()["categories"]] == ["coin", "key"]
    shown = [instance for concept in answer["results"] for instance in concept["instances"][:2]]
    for annotation, instance in zip(coco.json()["annotations"], shown, strict=True):
        assert annotation["segmentation"]["counts"] == instance["mask"]["counts"]
    yolo = client.post("/v1/export", json={"format": "yolo", **wanted}).text
    assert {line.split()[0] for line in yolo.splitlines()} == {"0", "1"}
    labelme = client.post("/v1/export", json={"format": "labelme", **wanted}).json()
    assert labelme["imageWidth"] == 90 and labelme["shapes"]
    (task,) = client.post("/v1/export", json={"format": "label_studio", **wanted}).json()
    assert task["predictions"][0]["result"]
    results[0]["instances"][0]["counts"][0] += 1
    assert_problem(client.post("/v1/export", json={"format": "coco", **wanted}), 422, "5,400 pixels")


def test_openapi_describes_every_endpoint_and_field(client):
    api = client.get("/openapi.json").json()
    promised = {
        "/v1/segment": "post",
        "/v1/images": "post",
        "/v1/images/{image_id}/segment": "post",
        "/v1/exemplars": "post",
        "/v1/models": "get",
        "/v1/models/{model_id}/info": "get",
        "/v1/predict": "post",
        "/health": "get",
        "/healthz": "get",
        "/readyz": "get",
        "/metrics": "get",
        "/label-studio/predict": "post",
        "/label-studio/setup": "post",
        "/label-studio/health": "get",
    }
    for path, method in promised.items():
        assert api["paths"][path][method]["description"]
    prompt = api["components"]["schemas"]["Prompt"]["properties"]
    assert [name for name, field in prompt.items() if "description" not in field] == []
    assert "application/problem+json" in api["paths"]["/v1/segment"]["post"]["responses"]["422"]["content"]
    assert "openapi.json" in client.get("/docs").text
