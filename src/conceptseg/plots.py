"""Overlays: masks, outlines, scores and example boxes drawn on the image, with Pillow alone."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from conceptseg.compact_masks import CompactMasks
from conceptseg.errors import OptionError
from conceptseg.prompts import VISUAL
from conceptseg.same_image import check_same_image

if TYPE_CHECKING:
    from conceptseg.result import Result

Color = tuple[int, int, int]

# Distinct in hue and lightness, and bright enough for dark text; further colours walk around the hue circle.
PALETTE: tuple[Color, ...] = (
    (255, 99, 72),
    (30, 190, 255),
    (255, 204, 0),
    (120, 220, 80),
    (226, 120, 255),
    (0, 214, 178),
    (255, 146, 196),
    (255, 160, 40),
    (140, 160, 255),
    (200, 230, 60),
    (255, 120, 120),
    (110, 230, 240),
)
POSITIVE_COLOR: Color = (40, 220, 90)
NEGATIVE_COLOR: Color = (255, 60, 60)
FILL_OPACITY = 0.45
SMALLEST_LABELLED_SIDE = 96  # on smaller pictures a label would hide what it names


@dataclass(frozen=True)
class Mark:
    """One object to draw."""

    mask: CompactMasks | None  # one; None draws the box instead
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
    color: Color
    label: str  # "" for none


def draw_results(results: Sequence[Result]) -> Image.Image:
    """Draw one or several results of the same image.

    One phrase: a colour per object. Several phrases: a colour per phrase. Objects are labelled with their
    score; a line per phrase in the corner says what was asked, how much was found and how likely the concept
    is there at all.

    Args:
        results: of one image; at least one.

    Returns:
        RGB, of the size of the image.

    Raises:
        OptionError: no result, results of different images, or results without their image.
    """
    check_same_image(results, "draw")
    pixels = results[0].image
    if pixels is None:
        raise OptionError("this result does not hold its image, so it cannot be drawn")

    colors = [(255, 255, 255)] if len(results) == 1 else [instance_color(k) for k in range(len(results))]
    headlines = [(_headline(result), color) for result, color in zip(results, colors, strict=True)]
    boxes = []
    for examples in {id(r.examples): r.examples for r in results if r.examples is not None}.values():
        for box, label in zip(examples.boxes_xyxy, examples.labels, strict=True):
            boxes.append((box, POSITIVE_COLOR if label else NEGATIVE_COLOR))
    return draw_marks(pixels, _objects(results), headlines, boxes)


def draw_marks(
    pixels: npt.NDArray[np.uint8],
    marks: Sequence[Mark],
    headlines: Sequence[tuple[str, Color]] = (),
    dashed_boxes: Sequence[tuple[Sequence[float], Color]] = (),
) -> Image.Image:
    """Draw masks and boxes on a picture.

    Args:
        pixels: (H, W, 3) RGB; not changed.
        marks: the first ones lie on top.
        headlines: lines in the upper left corner.
        dashed_boxes: x0, y0, x1, y1 in pixels.

    Returns:
        RGB, of the same size. Small pictures get no words, which would hide what they name.
    """
    line = max(1, round(min(pixels.shape[:2]) / 250))
    canvas = Image.fromarray(_paint(pixels, marks, line))
    draw = ImageDraw.Draw(canvas)
    for mark in reversed(marks):
        if mark.mask is None:
            _solid_box(draw, mark.box, mark.color, line + 1)
    for box, color in dashed_boxes:
        _dashed_box(draw, box, color, line + 1)
    if min(canvas.size) >= SMALLEST_LABELLED_SIDE:
        _write(draw, canvas.size, marks, headlines)
    return canvas


def instance_color(index: int) -> Color:
    """The colour of the i-th object or phrase; the first ones come from `PALETTE`."""
    if index < len(PALETTE):
        return PALETTE[index]
    hue = (index * 0.618034) % 1  # the golden ratio keeps neighbours far apart
    r, g, b = colorsys.hsv_to_rgb(hue, 0.65, 1.0)
    return round(255 * r), round(255 * g), round(255 * b)


def _objects(results: Sequence[Result]) -> list[Mark]:
    drawn = []
    for k, result in enumerate(results):
        names = list(dict.fromkeys(result.phrases))
        for i, (phrase, box, score) in enumerate(
            zip(result.phrases, result.boxes, result.scores, strict=True)
        ):
            number = k if len(results) > 1 else names.index(phrase) if len(names) > 1 else i
            x0, y0, x1, y1 = (float(value) for value in box)
            mask = result.compact_masks.take([i])
            drawn.append(Mark(mask, (x0, y0, x1, y1), instance_color(number), f"{score:.2f}"))
    return drawn


def _paint(pixels: npt.NDArray[np.uint8], drawn: Sequence[Mark], line: int) -> npt.NDArray[np.uint8]:
    """Fill and outline every mask; the best scores come last, so that they lie on top."""
    canvas = pixels.copy()
    for item in reversed(drawn):
        if item.mask is None or not len(item.mask.runs[0]):
            continue
        left, top, right, bottom = item.mask.window(0)
        up, back = min(line, top), min(line, left)  # a margin around the mask, as far as there is room for it
        patch = canvas[top - up : bottom + line, left - back : right + line]
        mask = np.zeros(patch.shape[:2], dtype=np.bool_)
        mask[up : up + bottom - top, back : back + right - left] = item.mask.crop(0)
        color = np.asarray(item.color, dtype=np.float32)
        patch[mask] = (patch[mask] * (1 - FILL_OPACITY) + color * FILL_OPACITY).round().astype(np.uint8)
        edge = mask & ~_eroded(mask, line)
        patch[_dilated(mask, 1) & ~mask] = (
            20,
            20,
            20,
        )  # a dark rim keeps bright outlines readable on bright images
        patch[edge] = item.color
    return canvas


def _eroded(mask: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """What stays when `steps` pixels are taken off all around; the edge of the image takes nothing."""
    for _ in range(steps):
        padded = np.pad(mask, 1, constant_values=True)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _dilated(mask: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    return ~_eroded(~mask, steps)


def _solid_box(draw: ImageDraw.ImageDraw, box: Sequence[float], color: Color, line: int) -> None:
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    corners = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
    # A dark rim on either side, as around masks.
    draw.rectangle((x0 - 1, y0 - 1, corners[2] + 1, corners[3] + 1), outline=(20, 20, 20), width=line + 2)
    draw.rectangle(corners, outline=color, width=line)


def _dashed_box(draw: ImageDraw.ImageDraw, box: Sequence[float], color: Color, line: int) -> None:
    x0, y0, x1, y1 = (float(value) for value in box)
    dash = 4.0 * line
    for start, end in (
        ((x0, y0), (x1, y0)),
        ((x1, y0), (x1, y1)),
        ((x1, y1), (x0, y1)),
        ((x0, y1), (x0, y0)),
    ):
        draw.line((*start, *end), fill=(20, 20, 20), width=line)
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for i in range(0, max(1, int(length / dash)), 2):
            a, b = min(1.0, i * dash / length), min(1.0, (i + 1) * dash / length)
            points = [start[axis] + (end[axis] - start[axis]) * t for t in (a, b) for axis in (0, 1)]
            draw.line(points, fill=color, width=line)


def _write(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    drawn: Sequence[Mark],
    headlines: Sequence[tuple[str, Color]],
) -> None:
    """Headlines first, then labels around them, best first; a label that finds no free place is left out."""
    font_size = min(28, max(10, round(max(size) / 55)))
    font = ImageFont.load_default(font_size)
    taken: list[tuple[float, float, float, float]] = []
    y = 4.0
    for headline, color in headlines:
        text = _fitting(draw, headline, font, size[0] - 8)
        pill = _pill(draw, (4.0, y), text, font, (25, 25, 25), color)
        taken.append(pill)
        y = pill[3] + 3
    if len(drawn) > 1:
        font = ImageFont.load_default(max(9, font_size - 2))
    for item in drawn:
        if not item.label:
            continue
        width, height = _pill_size(draw, item.label, font)
        for place in _places(item, width, height, size):
            if not any(_overlap((*place, place[0] + width, place[1] + height), other) for other in taken):
                taken.append(_pill(draw, place, item.label, font, item.color, _readable_on(item.color)))
                break


def _places(item: Mark, width: float, height: float, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Where a label may go, best first: on the upper edge of its box, inside, in the middle, below."""
    x0, y0, x1, y1 = item.box
    wanted = [
        (x0, y0 - height - 1),
        (x1 - width, y0 - height - 1),
        (x0 + 1, y0 + 1),
        ((x0 + x1 - width) / 2, (y0 + y1 - height) / 2),
        (x0, y1 + 1),
        (x1 - width, y1 + 1),
    ]
    inside = [(min(max(x, 0.0), size[0] - width), min(max(y, 0.0), size[1] - height)) for x, y in wanted]
    return [(float(round(x)), float(round(y))) for x, y in inside]


def _pill_size(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> tuple[int, int]:
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    del left, top
    return round(right) + 6, round(bottom) + 4


def _pill(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: Color,
    ink: Color,
) -> tuple[float, float, float, float]:
    width, height = _pill_size(draw, text, font)
    box = (place[0], place[1], place[0] + width, place[1] + height)
    draw.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius=3, fill=color)
    draw.text((place[0] + 3, place[1] + 1), text, fill=ink, font=font)
    return box


def _headline(result: Result) -> str:
    asked = "like the examples" if result.phrase == VISUAL else _short(result.phrase)
    found = f"{len(result)} found" if len(result) else "none found"
    return f"{asked}: {found}, presence {result.presence:.2f}"


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    while len(text) > 4 and _pill_size(draw, text, font)[0] > width:
        text = text[:-4] + "..."
    return text


def _short(phrase: str, longest: int = 48) -> str:
    return phrase if len(phrase) <= longest else phrase[: longest - 3] + "..."


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _readable_on(color: Color) -> Color:
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (15, 15, 15) if luminance > 110 else (255, 255, 255)
