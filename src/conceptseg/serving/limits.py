"""How large a request may be: looked at before memory is spent on it."""

from __future__ import annotations

import io

from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conceptseg.serving.problems import Problem
from conceptseg.serving.settings import Settings


class BodyLimit:
    """Refuses bodies over `max_upload_bytes`, by what they announce and by what arrives."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.limit = settings.max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.limit:
            await self._too_large().response()(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self.limit:
                raise self._too_large()
            return message

        async def unless_too_large(message: Message) -> None:
            if arrived <= self.limit:
                await send(message)

        try:
            await self.app(scope, counted, unless_too_large)
        finally:
            if arrived > self.limit:  # whatever the endpoint made of a body that broke off
                await self._too_large().response()(scope, receive, send)

    def _too_large(self) -> Problem:
        return Problem(
            413, f"the request is larger than {self.limit:,} bytes, which is the most this service takes"
        )


def check_pixels(content: bytes, max_pixels: int) -> None:
    """Refuse a picture whose header announces too many pixels.

    A file without a readable header is let through: opening it says what is wrong.

    Raises:
        Problem: 413.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
    except Exception:  # on damaged headers Pillow's readers raise almost anything
        return
    if width * height > max_pixels:
        raise Problem(
            413,
            f"the image has {width} x {height} = {width * height:,} pixels; this service takes at most "
            f"{max_pixels:,}",
        )
