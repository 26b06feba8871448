"""Images of Label Studio's tasks: in the request, or from the one Label Studio that was named at the start.

A request never decides where to connect: of an address only the path below `/data/` is used, and only at the
host that whoever started the service gave.
"""

from __future__ import annotations

import http.client
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from conceptseg.errors import ImageError
from conceptseg.serving.base64_image import decode_base64_image
from conceptseg.serving.settings import Settings

SERVED = "/data/"  # where Label Studio has uploaded and local files
SECONDS = 30.0


def task_image(source: object, settings: Settings) -> bytes:
    """Bytes of the file that a task's data names.

    Raises:
        ImageError: it may not be fetched, or cannot be.
    """
    if not isinstance(source, str):
        raise ImageError(f"the task's image is no text but {type(source).__name__}")
    if source.startswith("data:"):
        return decode_base64_image(source)
    if settings.label_studio_url is None:
        raise ImageError(
            "this service fetches no images; send them as data URIs, or start it with --label-studio-url"
        )
    parts = urlsplit(source)
    path = unquote(parts.path)
    own = not parts.netloc or f"{parts.scheme}://{parts.netloc}" == settings.label_studio_url
    if not own or not path.startswith(SERVED) or ".." in path.split("/"):
        raise ImageError(
            f"the task's image is not a file that {settings.label_studio_url} serves under {SERVED}"
        )
    query = f"?{parts.query}" if parts.query else ""
    headers = {}
    if settings.label_studio_token:
        headers["Authorization"] = f"Token {settings.label_studio_token}"
    request = Request(settings.label_studio_url + quote(path) + query, headers=headers)
    try:
        with build_opener(_NoRedirects).open(request, timeout=SECONDS) as answer:
            content: bytes = answer.read(settings.max_upload_bytes + 1)
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ImageError(f"Label Studio does not give the task's image: {reason}") from error
    if len(content) > settings.max_upload_bytes:
        raise ImageError(f"the task's image is larger than {settings.max_upload_bytes:,} bytes")
    return content


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *of_the_answer: Any) -> None:  # an answer with 3xx is then an error
        return None
