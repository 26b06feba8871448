"""What whoever runs the service can choose, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from urllib.parse import urlsplit

from conceptseg.errors import OptionError

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Limits and permissions; without any, everything is small, local and closed to other web pages.

    Raises:
        OptionError: an impossible value.
    """

    api_key: str | None = field(default=None, repr=False)  # None: whoever reaches the port may ask
    cors_origins: tuple[str, ...] = ()  # web pages from elsewhere that may ask, such as https://tool.example
    queue: int = 32  # requests that are answered or wait; further ones get 503
    timeout: float = 120.0  # seconds from the first byte of a request to the first of its answer
    cache_bytes: int = 1024 * MIB  # of encoded images
    max_upload_bytes: int = 32 * MIB  # of one request's body
    max_pixels: int = 50_000_000  # of one image
    max_phrases: int = 32  # of one request
    max_boxes: int = 100  # of one request
    max_exemplars: int = 1000  # that are kept; the least recently used is forgotten first
    label_studio_url: str | None = None  # where uploaded images of Label Studio are fetched; None: nowhere
    label_studio_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, (int, float)) and not (value > 0 and math.isfinite(value)):
                raise OptionError(f"{option.name} must be above 0; got {value!r}")
        if self.api_key is not None and len(self.api_key) < 8:
            raise OptionError("the API key must have at least 8 characters")
        for origin in self.cors_origins:
            _check_web_address(origin, "CORS origin", "https://tool.example")
        if self.label_studio_url is not None:
            _check_web_address(self.label_studio_url, "Label Studio address", "http://localhost:8080")


def _check_web_address(given: str, what: str, example: str) -> None:
    parts = urlsplit(given)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or given != f"{parts.scheme}://{parts.netloc}"
    ):
        raise OptionError(f"{what} {given!r} must be a scheme and a host alone, such as {example}")
