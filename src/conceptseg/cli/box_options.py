"""Boxes as people type them: `X0,Y0,X1,Y1` and `IMAGE:X0,Y0,X1,Y1`, in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from conceptseg.errors import PromptError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ExemplarOption:
    """An example box on another image."""

    image: Path
    box_xyxy: Box
    label: int = 1  # 1 like this, 0 not like this


def parse_box(text: str, option: str) -> Box:
    """Args:
        text: `X0,Y0,X1,Y1`.
        option: named in the error, such as `--box`.

    Raises:
        PromptError: not four finite numbers, or not in that order. Whether the box lies on the image is the
            segmenter's to check, which knows its size.
    """
    try:
        x0, y0, x1, y1 = (float(number) for number in text.split(","))
    except ValueError:
        raise PromptError(f"{option} {text} is not four numbers; give X0,Y0,X1,Y1 in pixels") from None
    if not all(math.isfinite(number) for number in (x0, y0, x1, y1)):
        raise PromptError(f"{option} {text} has a number that is not finite; give X0,Y0,X1,Y1 in pixels")
    for low, high, axis in ((x0, x1, "x"), (y0, y1, "y")):
        if high <= low:
            raise PromptError(f"{option} {text} has {axis}1 <= {axis}0; give X0,Y0,X1,Y1 in pixels")
    return x0, y0, x1, y1


def parse_exemplar(text: str, option: str = "--exemplar", label: int = 1) -> ExemplarOption:
    """Args:
        text: `IMAGE:X0,Y0,X1,Y1`; the image's own path may hold colons.
        option: named in the error.
        label: 1 like this, 0 not like this.

    Raises:
        PromptError: no colon, or what follows the last one is no box.
    """
    image, colon, box = text.rpartition(":")
    if not colon or not image:
        raise PromptError(f"{option} {text} has no box; give IMAGE:X0,Y0,X1,Y1, the box in pixels")
    return ExemplarOption(Path(image), parse_box(box, f"{option} {image}:"), label)
