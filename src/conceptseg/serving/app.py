"""The service as an ASGI application: endpoints, and what every request passes on its way to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

import conceptseg
from conceptseg.segmenter import Segmenter
from conceptseg.serving import anylabeling, health, label_studio, page, problems, segmenting
from conceptseg.serving.access import Access
from conceptseg.serving.limits import BodyLimit
from conceptseg.serving.logs import RequestLog
from conceptseg.serving.queue import Queue
from conceptseg.serving.service import Service
from conceptseg.serving.settings import Settings

DESCRIPTION = (
    "Segment every object that a phrase or an example box means. Errors are `application/problem+json`."
)
ROUTERS = (segmenting.router, health.router, anylabeling.router, label_studio.router, page.router)


def make_app(
    load: Callable[[], Segmenter], model: str, settings: Settings, routers: Sequence[APIRouter] = ROUTERS
) -> FastAPI:
    """Args:
        load: makes the segmenter, when the application starts.
        model: what it is loaded from.
        settings: limits and permissions.
        routers: the endpoints.

    Returns:
        The application; its `Service` is `app.state.service`.
    """
    service = Service(load, model, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="conceptseg",
        version=conceptseg.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # theirs loads scripts of another host; ours is in page.py
        redoc_url=None,
    )
    app.state.service = service
    problems.install(app)
    for router in routers:
        app.include_router(router)
    page.mount_files(app)
    # The last added sees a request first.
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Queue, settings=settings, metrics=service.metrics)
    app.add_middleware(Access, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )
    app.add_middleware(RequestLog, metrics=service.metrics)
    return app
