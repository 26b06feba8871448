"""Images that come inside JSON, as a data URI or as bare base64."""

from __future__ import annotations

import base64
import binascii

from conceptseg.errors import ImageError


def decode_base64_image(text: str) -> bytes:
    """The bytes of the file.

    Raises:
        ImageError: not base64. Paths and web addresses are not read.
    """
    scheme, comma, rest = text.partition(",")
    if comma and not (scheme.startswith("data:") and scheme.endswith(";base64")):
        raise ImageError("the image is neither base64 nor a data URI, data:image/png;base64,...")
    try:
        return base64.b64decode(rest if comma else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("the image is not base64; send its bytes, not a path or a web address") from error
