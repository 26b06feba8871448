"""Is it alive, is it ready, and how does it do."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from conceptseg.serving.problems import documented
from conceptseg.serving.service import ServiceOf

router = APIRouter(tags=["operation"])


class Status(BaseModel):
    """Of the service."""

    status: str


@router.get("/healthz")
async def alive() -> Status:
    """Liveness: the process answers, also while the model is being loaded."""
    return Status(status="alive")


@router.get("/readyz", responses=documented({503: "The model is still being loaded."}))
async def ready(service: ServiceOf) -> Status:
    """Readiness: the model is loaded, and questions can be asked."""
    assert service.segmenter  # or 503
    return Status(status="ready")


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceOf) -> Response:
    """Numbers for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
