"""The review as an ASGI application: one reader, on the machine on which the images are."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from conceptseg.review import endpoints
from conceptseg.review.review import Review
from conceptseg.segmenter import Segmenter
from conceptseg.serving import health
from conceptseg.serving.app import make_app
from conceptseg.serving.settings import Settings

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
# The own images of one reader: Pillow bounds their pixels, and who waits can see why.
SETTINGS = Settings(max_pixels=1_000_000_000, timeout=3600)


def make_review_app(review: Review, load: Callable[[], Segmenter], model: str) -> FastAPI:
    """Args:
    review: open, and used by nothing else.
    load: makes the segmenter that is asked for what labels lack.
    model: what it is loaded from.
    """
    app = make_app(load, model, SETTINGS, [endpoints.router, health.router])
    app.state.review = review
    # A foreign name that leads here is a web page that tries to look like this one.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return app
