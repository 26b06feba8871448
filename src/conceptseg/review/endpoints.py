"""The page of the review and what it asks. Images, objects and suggestions are numbers; no path is taken."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from PIL import Image
from pydantic import Field

from conceptseg.images import load_image
from conceptseg.review.decisions import Object, State
from conceptseg.review.export import export_accepted
from conceptseg.review.review import Review
from conceptseg.review.suggestions import LEAST_SCORE, MOST, Suggestion, suggestions
from conceptseg.serving.page import HEADERS, PAGES
from conceptseg.serving.problems import Problem
from conceptseg.serving.schemas import Box, Prompt, Strict
from conceptseg.serving.service import ServiceOf

SHOWN_BY_BROWSERS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

router = APIRouter(tags=["review"])


class Decide(Strict):
    """What becomes of an image."""

    state: State


class Ask(Strict):
    """What the labels of an image lack: by a phrase, by boxes around examples, or both."""

    phrase: int = Field(ge=0, description="Place of the phrase under which it belongs.")
    text: str | None = Field(
        default=None, description="Words to ask; without words and boxes the phrase's own."
    )
    boxes: list[Box] = Field(default=[], description="x0, y0, x1, y1 in pixels of the image.")
    labels: list[int] | None = Field(default=None, description="For each box 1 (like this) or 0.")


class Add(Strict):
    """Which of the suggestions that were made last."""

    id: str
    chosen: list[int]


@dataclass(frozen=True)
class Suggested:
    """The suggestions that were made last."""

    id: str
    place: int
    objects: list[Object]


def _review(request: Request) -> Review:
    review: Review = request.app.state.review
    return review


ReviewOf = Annotated[Review, Depends(_review)]  # of a request


def _place(review: ReviewOf, place: int) -> int:
    if not 0 <= place < len(review):
        raise Problem(404, f"there is no image {place}; there are {len(review):,}, from 0")
    return place


Place = Annotated[int, Depends(_place)]


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGES / "review.html", headers=HEADERS)


@router.get("/review")
async def overview(review: ReviewOf) -> dict[str, Any]:
    """The phrases, how far the review is, and where it goes on."""
    return {
        "folder": review.folder.name,
        "phrases": [vars(phrase) for phrase in review.phrases],
        "first": review.next_open(-1) or 0,
        **_progress(review),
    }


@router.get("/review/images/{place}")
async def image(review: ReviewOf, place: Place) -> dict[str, Any]:
    """An image with its objects as they are now."""
    return _shown(review, place)


@router.get("/review/images/{place}/file")
async def file(review: ReviewOf, place: Place) -> Response:
    """The picture, in a form that browsers show."""
    content = review.content(place)
    kind, content = await asyncio.to_thread(_for_browsers, content)
    headers = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}
    return Response(content, media_type=kind, headers={**headers, "X-Content-Type-Options": "nosniff"})


@router.get("/review/images/{place}/next")
async def next_open(review: ReviewOf, place: Place) -> dict[str, Any]:
    """The next image without a decision."""
    return {"place": review.next_open(place)}


@router.post("/review/images/{place}")
async def decide(review: ReviewOf, place: Place, wanted: Decide) -> dict[str, Any]:
    """Accept an image as it is now, reject it, or open it again."""
    review.decide(place, wanted.state)
    return {**_shown(review, place), "next": review.next_open(place)}


@router.delete("/review/images/{place}/objects/{key}")
async def remove(review: ReviewOf, place: Place, key: int) -> dict[str, Any]:
    """Delete an object."""
    try:
        review.remove(place, key)
    except KeyError as error:
        raise Problem(404, f"image {place} has no object {key} (any more)") from error
    return _shown(review, place)


@router.post("/review/images/{place}/suggestions")
async def suggest(
    request: Request, service: ServiceOf, review: ReviewOf, place: Place, wanted: Ask
) -> dict[str, Any]:
    """Ask the model for what is not labelled yet; only the suggestions that were made last can be added."""
    if wanted.phrase >= len(review.phrases):
        raise Problem(422, f"there is no phrase {wanted.phrase}; there are {len(review.phrases)}, from 0")
    phrase = review.phrases[wanted.phrase]
    prompt = Prompt(
        text=phrase.asked if wanted.text is None and not wanted.boxes else wanted.text,
        boxes=wanted.boxes or None,
        labels=wanted.labels,
        threshold=LEAST_SCORE,
        presence="ignore",
        max_instances=MOST,
    )
    key, encoded = await service.encode(review.content(place))
    (result,) = await service.ask(key, encoded, prompt)
    labels = [1] * len(wanted.boxes) if wanted.labels is None else wanted.labels
    examples = [box for box, label in zip(wanted.boxes, labels, strict=True) if label]
    labelled = review.at(place).decision.objects
    found = await asyncio.to_thread(suggestions, result, wanted.phrase, labelled, examples, phrase.threshold)
    made = Suggested(uuid.uuid4().hex, place, [one.object for one in found])
    request.app.state.suggested = made
    return {"id": made.id, "presence": round(result.presence, 6), "objects": _as_json(found)}


@router.post("/review/images/{place}/objects")
async def add(request: Request, review: ReviewOf, place: Place, wanted: Add) -> dict[str, Any]:
    """Add suggestions to the labels of their image."""
    made: Suggested | None = getattr(request.app.state, "suggested", None)
    if made is None or (made.id, made.place) != (wanted.id, place):
        raise Problem(404, "these suggestions are not the last ones (any more); ask again")
    chosen = sorted(set(wanted.chosen))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(made.objects):
        raise Problem(422, f"choose at least one of the {len(made.objects)} suggestions, from 0")
    review.add(place, [made.objects[number] for number in chosen])
    request.app.state.suggested = None
    return _shown(review, place)


@router.post("/review/undo")
async def undo(review: ReviewOf) -> dict[str, Any]:
    """Take the last step back, on whatever image it was; gives that image."""
    return _stepped(review, review.undo(), "undo")


@router.post("/review/redo")
async def redo(review: ReviewOf) -> dict[str, Any]:
    """Take the step again that was taken back last."""
    return _stepped(review, review.redo(), "redo")


@router.post("/review/export")
async def export(review: ReviewOf) -> dict[str, Any]:
    """Write the accepted images as a COCO dataset beside the labels."""
    written = export_accepted(review)
    return {"folder": str(written.folder), "images": written.images, "objects": written.objects}


def _stepped(review: Review, place: int | None, what: str) -> dict[str, Any]:
    if place is None:
        raise Problem(409, f"there is nothing to {what}")
    return _shown(review, place)


def _progress(review: Review) -> dict[str, Any]:
    undo, redo = review.steps()
    return {"images": len(review), "counts": review.counts(), "undo": undo, "redo": redo}


def _shown(review: Review, place: int) -> dict[str, Any]:
    shown = review.at(place)
    height, width = shown.size_hw
    return {
        "place": place,
        "name": shown.image.name,
        "width": width,
        "height": height,
        "state": shown.decision.state,
        "presence": shown.presence,
        "objects": [vars(one) for one in shown.decision.objects],
        **_progress(review),
    }


def _as_json(found: Sequence[Suggestion]) -> list[dict[str, Any]]:
    return [{**vars(one.object), "wanted": one.wanted} for one in found]


def _for_browsers(content: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(content)) as picture:
        kind = picture.format or ""
        if kind in SHOWN_BY_BROWSERS:
            return Image.MIME[kind], content
    stream = io.BytesIO()
    Image.fromarray(load_image(content).pixels).save(stream, format="PNG")
    return "image/png", stream.getvalue()
