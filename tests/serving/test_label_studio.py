"""The contract of label-studio-ml-backend (label_studio_ml/api.py), read with Label Studio's own SDK."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from tests.serving.conftest import assert_problem

CONFIG = """<View>
  <Image name="photo" value="$picture"/>
  <BrushLabels name="tag" toName="photo" model_score_threshold="0.1">
    <Label value="coin"/><Label value="key"/>
  </BrushLabels>
  <RectangleLabels name="like" toName="photo" smart="true"><Label value="coin"/></RectangleLabels>
</View>"""
POLYGONS = CONFIG.replace("BrushLabels", "PolygonLabels")
UPLOADED = "/data/upload/1/photo.png"


def task(source):
    return {"id": 1, "data": {"picture": source}}


@pytest.fixture
def inline(photo):
    return task("data:image/png;base64," + base64.b64encode(photo).decode())


def predict(client, tasks, config=CONFIG, context=None):
    params = {"login": None, "password": None, "context": context}
    body = {"tasks": tasks, "project": "1.1700000000", "label_config": config, "params": params}
    headers = {"Content-Type": "application/json"}
    return client.post("/label-studio/predict", content=json.dumps(body), headers=headers)


def rectangle(x, y, width, height, label="coin", positive=1):
    return {
        "type": "rectanglelabels",
        "original_width": 90,
        "original_height": 60,
        "is_positive": positive,
        "value": {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [label]},
    }


def masks_of(regions):
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed"
    )
    return [brush.decode_rle(region["value"]["rle"]).reshape(60, 90, 4)[:, :, 3] > 0 for region in regions]


def test_health_and_setup(client):
    assert client.get("/label-studio/health").json()["status"] == "UP"
    assert client.get("/label-studio/").json()["status"] == "UP"
    asked = {"project": "1.17", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "x"}
    version = client.post("/label-studio/setup", json=asked)
    assert version.status_code == 200 and version.json()["model_version"].startswith("conceptseg-tiny.pt-")


def test_rectangles_are_examples_of_their_label(client, inline, tiny_segmenter, picture):
    context = {"result": [rectangle(10, 10, 30, 50), rectangle(60, 40, 30, 50, positive=0)]}
    (prediction,) = predict(client, [inline], context=context).json()["results"]
    boxes = [[9, 6, 36, 36], [54, 24, 81, 54]]
    expected = tiny_segmenter.segment(picture, "coin", boxes=boxes, labels=[1, 0], threshold=0.1)
    assert len(expected)
    assert len(prediction["result"]) == len([mask for mask in expected.masks if mask.any()])


def test_brush_runs_are_read_by_the_sdk_s_own_converter(client, inline, tiny_segmenter, picture):
    (prediction,) = predict(client, [inline]).json()["results"]
    expected = {
        result.phrase: result for result in tiny_segmenter.segment(picture, ["coin", "key"], threshold=0.1)
    }
    found = 0
    for label, result in expected.items():
        regions = [region for region in prediction["result"] if region["value"]["brushlabels"] == [label]]
        whole = [mask for mask in result.masks if mask.any()]
        assert len(regions) == len(whole)
        for region, mask in zip(masks_of(regions), whole, strict=True):
            assert (region == mask).all()
        found += len(regions)
    assert found > 0
    region = prediction["result"][0]
    assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "photo", "brushlabels")
    assert (region["original_width"], region["original_height"]) == (90, 60)
    assert region["value"]["format"] == "rle" and 0 < prediction["score"] <= 1


def test_text_of_a_text_area_is_the_phrase_and_the_label_stays(client, inline, tiny_segmenter, picture):
    text = {"type": "textarea", "value": {"text": ["striped star"]}}
    context = {"result": [rectangle(10, 10, 30, 50, label="key"), text]}
    (prediction,) = predict(client, [inline], POLYGONS, context).json()["results"]
    expected = tiny_segmenter.segment(picture, "striped star", boxes=[[9, 6, 36, 36]], threshold=0.1)
    assert len(expected) and len(prediction["result"]) >= len([m for m in expected.masks if m.any()])
    for region in prediction["result"]:
        assert region["value"]["polygonlabels"] == ["key"]
        assert (np.array(region["value"]["points"]) <= 100).all()
    (alone,) = predict(client, [inline], POLYGONS, {"result": [text]}).json()["results"]
    assert {tuple(r["value"]["polygonlabels"]) for r in alone["result"]} == {("striped star",)}


def test_what_cannot_be_used_is_told(client, inline):
    assert_problem(predict(client, [inline], "<View"), 422, "no valid XML")
    assert_problem(predict(client, [inline], "<View/>"), 422, "no <Image>")
    assert_problem(predict(client, [inline], '<View><Image name="a" value="$b"/></View>'), 422, "BrushLabels")
    assert_problem(predict(client, [inline], "<!DOCTYPE a [<!ENTITY b 'c'>]><View/>"), 422, "entities")
    odd = CONFIG.replace("0.1", "high")
    assert_problem(predict(client, [inline], odd), 422, "model_score_threshold 'high'")
    keypoint = {"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["coin"]}}
    assert_problem(predict(client, [inline], context={"result": [keypoint]}), 422, "draw rectangles")
    broken = {"type": "rectanglelabels", "value": {"x": 1}}
    assert_problem(predict(client, [inline], context={"result": [broken]}), 422, "rectanglelabels")
    assert_problem(predict(client, [task(None)]), 422, "no text")
    for source in (UPLOADED, "http://127.0.0.1:9/x.png", "file:///etc/hostname"):
        assert_problem(predict(client, [task(source)]), 422, "--label-studio-url")


@pytest.fixture
def label_studio(photo):
    """A Label Studio that has one uploaded file, behind a token; gives its address and the paths asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = self.path == UPLOADED and self.headers["Authorization"] == "Token abc"
            self.send_response(302 if self.path == "/data/moved" else 200 if known else 404)
            if self.path == "/data/moved":
                self.send_header("Location", UPLOADED)
            self.end_headers()
            if known:
                self.wfile.write(photo)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_uploaded_images_come_from_the_one_label_studio_that_was_named(start, label_studio, inline):
    url, asked = label_studio
    client = start(label_studio_url=url, label_studio_token="abc")
    assert predict(client, [task(UPLOADED)]).json() == predict(client, [inline]).json()
    assert predict(client, [task(url + UPLOADED)]).status_code == 200
    seen = len(asked)
    for source in (
        "http://127.0.0.1:9" + UPLOADED,
        "//127.0.0.1:9" + UPLOADED,
        url + "@127.0.0.1:9/data/x",
        "/data/../api/projects",
        "/data/%2e%2e/api/projects",
        "/api/projects",
    ):
        assert_problem(predict(client, [task(source)]), 422, "not a file that")
    assert len(asked) == seen
    assert_problem(predict(client, [task("/data/upload/none.png")]), 422, "Label Studio does not give")
    assert_problem(predict(client, [task("/data/moved")]), 422, "Label Studio does not give")
    assert asked[-1] == "/data/moved"


@pytest.mark.parametrize(
    ("tasks", "config", "context"),
    [
        ([{"data": []}], CONFIG, None),
        ([7], CONFIG, None),
        ([{}], CONFIG, ["drawn"]),
        ([{}], CONFIG, {"result": {"type": "textarea"}}),
        ([{}], CONFIG, {"result": ["textarea"]}),
        ([{}], "\ud800", None),
    ],
)
def test_what_is_garbled_is_refused(client, tasks, config, context):
    assert_problem(predict(client, tasks, config, context), 422)


def test_a_number_beyond_all_numbers_is_refused(client, inline):
    drawn = {"result": [rectangle(1, 1, 10**400, 1)]}
    assert_problem(predict(client, [inline], context=drawn), 422, "rectanglelabels")
