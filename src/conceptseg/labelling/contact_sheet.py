"""Some labelled images on one page, to be looked at before a million more are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from conceptseg.errors import ImageError
from conceptseg.images import load_image
from conceptseg.labelling.ledger import Labelled
from conceptseg.labelling.outputs import results_of
from conceptseg.labelling.writing import placing
from conceptseg.plots import draw_results

SHEET = "contact_sheet.jpg"
IMAGES = 20
COLUMNS = 5
TILE = 360  # pixels, with the margin
MARGIN = 8
CAPTION = 16


def write_contact_sheet(folder: Path, images: Sequence[Labelled], names: Sequence[str]) -> None:
    """Draw images with their objects in rows of five; one whose file is gone by now has an empty place.

    Args:
        folder: of the labels.
        images: at least one.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * TILE + MARGIN, rows * (TILE + CAPTION) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left = MARGIN + number % columns * TILE
        top = MARGIN + number // columns * (TILE + CAPTION)
        try:
            picture = draw_results(results_of(image, names, load_image(image.path).pixels))
        except ImageError:
            continue
        fitted = ImageOps.contain(picture, (TILE - MARGIN, TILE - MARGIN))
        sheet.paste(fitted, (left, top + CAPTION))
        draw.text((left, top), image.name[-56:], fill="black")
    with placing(folder, folder / SHEET) as draft:
        sheet.save(draft, format="JPEG", quality=90)
