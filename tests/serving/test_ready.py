"""Alive before ready; a model that cannot be loaded ends the service; shutdown finishes what was begun."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from conceptseg.errors import ModelNotFoundError, OptionError
from conceptseg.serving.app import make_app
from conceptseg.serving.run import listen, serve
from conceptseg.serving.settings import Settings
from tests.serving.conftest import MINUTE, assert_problem, running, segment, until_ready


def test_it_is_alive_while_the_model_loads_and_ready_after(tiny_segmenter, photo):
    loaded = threading.Event()

    def load():
        assert loaded.wait(MINUTE)
        return tiny_segmenter

    with (
        running(make_app(load, "tiny", Settings())) as url,
        httpx.Client(base_url=url, timeout=MINUTE) as client,
    ):
        assert client.get("/healthz").json() == {"status": "alive"}
        not_yet = client.get("/readyz")
        assert_problem(not_yet, 503, "still being loaded")
        assert "retry-after" in not_yet.headers
        assert_problem(segment(client, photo, text="coin"), 503, "still being loaded")
        assert client.get("/health").json()["models_loaded"] == 0
        loaded.set()
        until_ready(client)
        assert client.get("/health").json()["models_loaded"] == 1
        assert "conceptseg_ready 1.0" in client.get("/metrics").text


@pytest.fixture
def logs_as_they_were():
    logs = [logging.getLogger(name) for name in ("conceptseg.serving", "uvicorn.error")]
    before = [(log.handlers, log.propagate, log.level) for log in logs]
    yield
    for log, (handlers, propagate, level) in zip(logs, before, strict=True):
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


def test_a_model_that_cannot_be_loaded_ends_the_service_with_its_message(logs_as_they_were):
    def load():
        raise ModelNotFoundError("no model is called zebra")

    with pytest.raises(ModelNotFoundError, match="zebra"):
        serve(make_app(load, "zebra", Settings()), listen("127.0.0.1", 0))


def test_a_taken_port_is_told():
    with listen("127.0.0.1", 0) as taken:
        with pytest.raises(OptionError, match="cannot listen on 127.0.0.1"):
            listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.slow
def test_sigterm_finishes_the_request_under_way(tiny_model_folder, photo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "conceptseg",
        "serve",
        "--model",
        str(tiny_model_folder),
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=MINUTE) as client:
            for _ in range(1200):
                try:
                    client.get("/healthz")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            until_ready(client)
            answers = []
            asking = threading.Thread(
                target=lambda: answers.append(segment(client, photo, text=[f"coin {i}" for i in range(32)]))
            )
            asking.start()
            for _ in range(1200):
                if "requests_in_flight 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text or answers:
                    break
            process.send_signal(signal.SIGTERM)
            asking.join(MINUTE)
        _, log = process.communicate(timeout=MINUTE)
    assert answers[0].status_code == 200
    assert "Traceback" not in log and '"path": "/v1/segment", "status": 200' in log
