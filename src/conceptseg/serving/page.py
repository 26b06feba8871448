"""The page at `/` and the reference at `/docs`: static files of the package, nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

PAGES = Path(__file__).parent / "pages"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> FileResponse:
    return FileResponse(PAGES / "index.html", headers=HEADERS)


@router.get("/docs")
async def reference() -> FileResponse:
    return FileResponse(PAGES / "docs.html", headers=HEADERS)


def mount_files(app: FastAPI) -> None:
    """Scripts and styles under `/static`."""
    app.mount("/static", StaticFiles(directory=PAGES), name="static")
