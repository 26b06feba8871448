"""A folder that was labelled, and a server of its review."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from conceptseg.labelling import label
from conceptseg.review import Review
from conceptseg.review.app import make_review_app
from conceptseg.segmenter import Segmenter
from tests.labelling.pictures import two_phrases, write_pictures
from tests.serving.conftest import PATIENCE, running, until_ready


@pytest.fixture
def labels(tmp_path: Path, tiny_model_folder: Path, tiny_segmenter: Segmenter) -> Path:
    """Six pictures of 48 x 32, asked for "red circle" and "coin"."""
    photos = write_pictures(tmp_path / "photos", 6)
    label([photos], two_phrases(tiny_model_folder), tmp_path / "labels", segmenter=tiny_segmenter)
    return tmp_path / "labels"


@pytest.fixture
def review(labels: Path) -> Iterator[Review]:
    with Review.open(labels) as review:
        yield review


@dataclass
class Page:
    """What the page does, without a browser."""

    client: httpx.Client

    def get(self, path: str) -> dict:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **content: object) -> dict:
        answer = self.client.post(path, json=content)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def page(review: Review, tiny_segmenter: Segmenter) -> Iterator[Page]:
    app = make_review_app(review, lambda: tiny_segmenter, "models/tiny.pt")
    with running(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        until_ready(client)
        yield Page(client)
