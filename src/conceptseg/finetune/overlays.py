"""Pictures of what fine-tuning changed: what is annotated, what was found before, and what is found after.

RUN/before_after.png   a row per image, a colour per phrase (per object, if there is one phrase)
RUN/overlays/1.png ... one image each, a row per phrase
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.compact_masks import CompactMasks
from conceptseg.data.concept_data import ConceptDataset, ConceptImage
from conceptseg.images import Pixels, load_image
from conceptseg.plots import Color, Mark, draw_marks, instance_color
from conceptseg.result import Result
from conceptseg.segmenter import Segmenter

FIGURE, FOLDER = "before_after.png", "overlays"
ROWS = 3  # images of the figure
PICTURES = 4  # images that are drawn phrase by phrase
PHRASES = 6  # of one image, at most
PANEL_WIDTH = 288  # pixels of each of the three panels of a row
GAP = 6  # white pixels between panels
WHITE: Color = (255, 255, 255)
LINE, STRIP_COLOR = 18, 25  # height of a line above a panel, and the grey behind it


@dataclass(frozen=True)
class Regions:
    """The objects of one phrase in one image, as annotated or as found."""

    phrase: str
    boxes_xyxy: Sequence[Sequence[float]]  # pixels
    masks: Sequence[NDArray[np.bool_]] | CompactMasks | None  # (H, W) each; None: boxes are drawn
    color: Color


def draw_overlays(models: tuple[Segmenter, Segmenter], judge: ConceptDataset, folder: Path) -> list[str]:
    """Draw some held-out images, evenly spread: annotated, before, after.

    Args:
        models: before and after, asked by phrase at a threshold of 0.5.
        judge: the held-out images. Where they have boxes only, boxes are drawn.
        folder: of the run.

    Returns:
        The files, the figure of all first; relative to the folder.
    """
    count = min(PICTURES, len(judge))
    rows, drawn = [], []
    for number in range(count):
        image = judge[number * len(judge) // count]
        panels = list(_panels(image, models, judge))
        pixels = load_image(image.path).pixels
        if number < ROWS:
            rows.append(_row(pixels, panels))
        phrases = [[[regions] for regions in panel] for panel in panels]
        by_phrase = [_row(pixels, list(one)) for one in zip(*phrases, strict=True)]
        drawn.append(_save(_stacked(by_phrase), folder, f"{FOLDER}/{number + 1}.png"))
    return [_save(_stacked(rows), folder, FIGURE), *drawn]


def _panels(
    image: ConceptImage, models: tuple[Segmenter, Segmenter], judge: ConceptDataset
) -> Iterator[list[Regions]]:
    """What is annotated, found before, and found after: for each phrase of the image."""
    phrases = list(image.phrases)[:PHRASES] or list(judge.phrases[:1])
    colors = {phrase: instance_color(judge.phrases.index(phrase)) for phrase in phrases}
    yield [_annotated(image, phrase, judge.has_masks, colors[phrase]) for phrase in phrases]
    for model in models:
        results = model.segment(image.path, text=phrases)
        yield [_found(result, judge.has_masks, colors[result.phrase]) for result in results]


def _annotated(image: ConceptImage, phrase: str, with_masks: bool, color: Color) -> Regions:
    objects = [it for it in image.phrases.get(phrase, ()) if not it.crowd]
    decoded = [it.decode(image.height, image.width) for it in objects] if with_masks else []
    masks = [mask for mask in decoded if mask is not None] if with_masks else None
    return Regions(phrase, [it.box_xyxy for it in objects], masks, color)


def _found(result: Result, with_masks: bool, color: Color) -> Regions:
    return Regions(result.phrase, result.boxes.tolist(), result.compact_masks if with_masks else None, color)


def _row(pixels: Pixels, panels: Sequence[Sequence[Regions]]) -> Image.Image:
    """Three panels side by side, each under a strip that says what it shows."""
    scale, strip = PANEL_WIDTH / pixels.shape[1], LINE * len(panels[0])
    height = max(1, round(pixels.shape[0] * scale))
    small = Image.fromarray(pixels).resize((PANEL_WIDTH, height), Image.Resampling.LANCZOS)
    below = np.full((strip + height, PANEL_WIDTH, 3), STRIP_COLOR, np.uint8)
    below[strip:] = np.asarray(small)
    row = Image.new("RGB", (3 * PANEL_WIDTH + 2 * GAP, strip + height), "white")
    for number, (title, panel) in enumerate(zip(("annotated", "before", "after"), panels, strict=True)):
        alone = len(panel) == 1
        marks = [mark for regions in panel for mark in _marks(regions, scale, height, strip, alone)]
        lines = [(f"{title}: {len(it.boxes_xyxy)} {it.phrase}", WHITE if alone else it.color) for it in panel]
        row.paste(draw_marks(below, marks, lines), (number * (PANEL_WIDTH + GAP), 0))
    return row


def _marks(regions: Regions, scale: float, height: int, strip: int, alone: bool) -> list[Mark]:
    """In the phrase's colour, or, where it is alone, in one per object: then neighbours can be told apart."""
    marks = []
    masks = itertools.repeat(None) if regions.masks is None else iter(regions.masks)
    for number, (box, whole) in enumerate(zip(regions.boxes_xyxy, masks, strict=False)):
        x0, y0, x1, y1 = (float(value) * scale for value in box)
        mask = None
        if whole is not None:
            mask = CompactMasks.from_whole(np.pad(_resized(whole, height), ((strip, 0), (0, 0)))[None])
        color = instance_color(number) if alone else regions.color
        marks.append(Mark(mask, (x0, y0 + strip, x1, y1 + strip), color, ""))
    return marks


def _resized(mask: NDArray[np.bool_], height: int) -> NDArray[np.bool_]:
    """(H, W) -> (height, PANEL_WIDTH)."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((PANEL_WIDTH, height), Image.Resampling.BILINEAR)) > 127


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    height = sum(row.height for row in rows) + GAP * (len(rows) - 1)
    whole = Image.new("RGB", (rows[0].width, height), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + GAP
    return whole


def _save(picture: Image.Image, folder: Path, file: str) -> str:
    with replacing(folder / file) as draft:
        picture.save(draft, format="PNG", optimize=True)
    return file
