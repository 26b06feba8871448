"""What is too large is refused before it is read or decoded; what is too much is told when to come back."""

import io
import json
import threading

import httpx
import numpy as np
import pytest
from PIL import Image

from conceptseg.errors import OptionError
from conceptseg.serving.logs import logger
from conceptseg.serving.settings import Settings
from tests.serving.conftest import assert_problem, png, segment


class Held:
    """A segmenter that waits in `segment` until it may go on."""

    def __init__(self, segmenter):
        self.segmenter = segmenter
        self.begun, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self.segmenter, name)

    def segment(self, *arguments, **options):
        self.begun.set()
        assert self.go.wait(60)
        return self.segmenter.segment(*arguments, **options)


@pytest.fixture
def held(tiny_segmenter):
    segmenter = Held(tiny_segmenter)
    yield segmenter
    segmenter.go.set()


def in_background(function):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    return thread, answers


def test_a_body_over_the_limit_is_refused(start, photo):
    client = start(max_upload_bytes=5000)
    assert_problem(segment(client, b"0" * 6000, text="coin"), 413, "5,000 bytes")

    def chunks():
        yield from [b"0" * 1000] * 9

    unannounced = client.post("/v1/predict", content=chunks(), headers={"Content-Type": "application/json"})
    assert_problem(unannounced, 413, "5,000 bytes")
    assert segment(client, photo, text="coin").status_code == 200


def test_pixels_are_counted_from_the_header_before_decoding(start):
    client = start(max_pixels=1000)
    file = io.BytesIO()
    Image.new("L", (40, 40)).save(file, format="PNG")
    content = file.getvalue()
    header_alone = content[: content.index(b"IDAT") + 4]  # decoding it would fail in other words
    assert_problem(segment(client, header_alone, text="coin"), 413, "40 x 40 = 1,600 pixels", "1,000")
    body = {"format": "coco", "width": 40, "height": 40, "results": [
        {"phrase": "coin", "presence": 1, "instances": []}
    ]}  # fmt: skip
    assert_problem(client.post("/v1/export", json=body), 413, "1,000 pixels")


def test_a_full_queue_answers_503_with_retry_after_and_the_rest_is_answered(start, held, photo):
    client = start(held, queue=1)
    thread, answers = in_background(lambda: segment(client, photo, text="coin"))
    assert held.begun.wait(60)
    refused = segment(client, photo, text="coin")
    assert_problem(refused, 503, "1 places")
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200
    held.go.set()
    thread.join(60)
    assert answers[0].status_code == 200
    assert segment(client, photo, text="coin").status_code == 200
    assert "conceptseg_requests_refused_total 1.0" in client.get("/metrics").text


def test_a_request_that_takes_too_long_ends_in_504_and_frees_its_place(start, held, photo):
    client = start(held, queue=1, timeout=0.3)
    assert_problem(segment(client, photo, text="coin"), 504, "0.3 seconds")
    held.go.set()
    assert segment(client, photo, text="coin").status_code in (200, 504)
    assert "requests_in_flight 0.0" in client.get("/metrics").text


def test_what_breaks_inside_is_500_without_a_traceback(start, held, photo):
    held.segment = lambda *_, **__: 1 / 0
    answer = segment(start(held), photo, text="coin")
    assert_problem(answer, 500, answer.headers["x-request-id"])
    assert "division" not in answer.text


def test_concurrent_requests_share_the_encoding(start, held, photo):
    client = start(held)
    threads = [in_background(lambda: segment(client, photo, text="coin")) for _ in range(4)]
    held.go.set()
    for thread, answers in threads:
        thread.join(60)
        assert answers[0].status_code == 200
    assert "conceptseg_image_cache_misses_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": 0},
        {"timeout": float("nan")},
        {"api_key": "short"},
        {"cors_origins": ("*",)},
        {"cors_origins": ("https://tool.example/page",)},
        {"label_studio_url": "localhost:8080"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(OptionError):
        Settings(**wrong)


def test_logs_hold_no_phrase_and_no_image(start, caplog, picture):
    caplog.set_level("INFO", logger="conceptseg.serving")
    logger.addHandler(caplog.handler)  # the command line has it tell nobody else
    answer = segment(start(), png(np.flip(picture, 1).copy()), text="a very private phrase")
    lines = [r for r in caplog.records if getattr(r, "fields", {}).get("path") == "/v1/segment"]
    assert {line.fields["status"] for line in lines} == {200}
    assert lines[0].fields["request"] == answer.headers["x-request-id"]
    logger.removeHandler(caplog.handler)
    assert "private" not in json.dumps([r.fields for r in lines]) + caplog.text


def test_a_client_that_goes_away_frees_its_place(start, held, photo):
    client = start(held, queue=1, timeout=2)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/segment", files={"image": photo}, data={"prompt": '{"text": "coin"}'}, timeout=0.2)
    held.go.set()
    for _ in range(200):
        if "requests_in_flight 0.0" in client.get("/metrics").text:
            return
        threading.Event().wait(0.05)
    raise AssertionError("its place was not freed")
