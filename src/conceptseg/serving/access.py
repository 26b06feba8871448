"""Who may ask: an API key, compared in constant time, and no web pages from elsewhere.

A page on another site can make a browser send requests to a service on the reader's own machine. Such
requests name their origin, and are refused unless that origin was allowed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from conceptseg.serving.problems import Problem
from conceptseg.serving.settings import Settings

# What a reader, a browser or a cluster may see without a key; nothing here asks the model.
OPEN_PATHS = {
    "/",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/health",
    "/label-studio",
    "/label-studio/",
    "/label-studio/health",
}
OPEN_FOLDER = "/static/"


class Access:
    """Answers 401 without the key, and 403 to pages of foreign origin."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        await (self.app if problem is None else problem.response())(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            if origin not in self.settings.cors_origins:
                return Problem(403, f"pages of {origin} may not use this service (--cors-origin allows them)")
        path = scope["path"]
        if self.settings.api_key is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        right = self.settings.api_key.encode()
        # No `any`: every given key is compared, whichever is right.
        if sum(hmac.compare_digest(key.encode(), right) for key in given_keys(headers)):
            return None
        return Problem(
            401,
            "this service needs its API key, as Authorization: Bearer KEY",
            {"WWW-Authenticate": 'Bearer realm="conceptseg", Basic realm="conceptseg"'},
            success=False,  # this and the next for X-AnyLabeling
            error={"code": "UNAUTHORIZED", "message": "invalid or missing API key"},
        )


def given_keys(headers: Headers) -> list[str]:
    """Keys of a request, wherever a client puts them: bearer, basic password (Label Studio), X-API-Key, or
    Token (X-AnyLabeling).
    """
    keys = [headers[name] for name in ("x-api-key", "token") if name in headers]
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        keys.append(rest.strip())
    elif scheme.lower() == "basic":
        try:
            keys.append(base64.b64decode(rest, validate=True).decode().partition(":")[2])
        except (binascii.Error, UnicodeDecodeError):
            pass  # not a key
    return keys
