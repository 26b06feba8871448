"""A real server in this process, with the tiny model."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from conceptseg.segmenter import Segmenter
from conceptseg.serving.app import make_app
from conceptseg.serving.run import listen
from conceptseg.serving.settings import Settings

MINUTE = 60.0
PATIENCE = 5 * MINUTE  # of clients: a busy machine is no failure


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Its address, while it serves on a free port."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(MINUTE)
        listening.close()


def until_ready(client: httpx.Client) -> None:
    for _ in range(1200):
        if client.get("/readyz").status_code == 200:
            return
        threading.Event().wait(0.05)
    raise AssertionError("the service did not become ready")


@pytest.fixture
def start(tiny_segmenter: Segmenter) -> Iterator[Callable[..., httpx.Client]]:
    """Start a service of its own with these settings; gives a client of it."""
    with contextlib.ExitStack() as stack:

        def start(segmenter: Segmenter = tiny_segmenter, **settings: Any) -> httpx.Client:
            app = make_app(lambda: segmenter, "models/tiny.pt", Settings(**settings))
            url = stack.enter_context(running(app))
            client = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE))
            until_ready(client)
            return client

        yield start


@pytest.fixture(scope="session")
def client(tiny_segmenter: Segmenter) -> Iterator[httpx.Client]:
    """A client of one service that many tests share."""
    app = make_app(lambda: tiny_segmenter, "models/tiny.pt", Settings())
    with running(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        until_ready(client)
        yield client


@pytest.fixture
def photo(picture: np.ndarray) -> bytes:
    """A PNG file of 90 x 60 pixels."""
    return png(picture)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def segment(client: httpx.Client, photo: bytes, **prompt: Any) -> httpx.Response:
    return client.post("/v1/segment", files={"image": photo}, data={"prompt": json.dumps(prompt)})


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    """A problem with this status whose detail has these words, and no traceback."""
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert (response.status_code, content["status"]) == (status, status)
    assert [word for word in words if word not in content["detail"]] == []
    assert "Traceback" not in response.text and str(Path(__file__).parents[2]) not in response.text
