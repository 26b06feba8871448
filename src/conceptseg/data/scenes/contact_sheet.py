"""Many scenes at a glance: what a phrase names in each of them is outlined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from conceptseg.data.scenes.scene import Scene
from conceptseg.errors import OptionError

_MARGIN = 6
_CAPTION = 32


def contact_sheet(scenes: Sequence[Scene], columns: int, tile: int | None = None) -> Image.Image:
    """Lay scenes out in rows, each with one of its phrases and one that is absent.

    Args:
        tile: pixels per scene; None keeps their own size.

    Raises:
        OptionError: no scene, or no column.
    """
    if not scenes or columns < 1:
        raise OptionError(f"{len(scenes)} scenes in {columns} columns: give at least one of each")
    side = tile or scenes[0].image.shape[1]
    rows = -(-len(scenes) // columns)
    width, height = side + _MARGIN, side + _CAPTION + _MARGIN
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for number, scene in enumerate(scenes):
        left, top = _MARGIN + number % columns * width, _MARGIN + number // columns * height
        phrase = _telling_phrase(scene)
        picture = Image.fromarray(outlined(scene, scene.phrases[phrase]))
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        lines = [(phrase, (20, 110, 40))]
        if scene.absent_phrases:
            lines.append((f"no {scene.absent_phrases[0]}", (170, 40, 40)))
        for row, (text, ink) in enumerate(lines):
            draw.text((left + 1, top + side + 2 + 14 * row), _fitted(text, font, side), ink, font)
    return sheet


def outlined(scene: Scene, members: Sequence[int], thickness: int = 2) -> NDArray[np.uint8]:
    """The picture (H, W, 3) with a bright line just inside the masks of some objects."""
    image = scene.image.copy()
    for index in members:
        inner = scene.objects[index].mask
        for _ in range(thickness):
            # What has all four neighbours within the mask; the border of the frame counts as outside.
            edge = np.pad(inner, 1)
            inner = inner & edge[:-2, 1:-1] & edge[2:, 1:-1] & edge[1:-1, :-2] & edge[1:-1, 2:]
        image[scene.objects[index].mask & ~inner] = (255, 0, 200)
    return image


def _telling_phrase(scene: Scene) -> str:
    """A phrase that leaves something out if there is one, the shorter the better."""

    def rank(phrase: str) -> tuple[bool, bool, int, str]:
        names_all = len(scene.phrases[phrase]) == len(scene.objects)
        return names_all, "plain" in phrase or phrase.startswith("a"), abs(phrase.count(" ") - 1), phrase

    return min(scene.phrases, key=rank)


def _fitted(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    while font.getlength(text) > width and len(text) > 4:
        text = text[:-2].rstrip(" .") + "."
    return text
