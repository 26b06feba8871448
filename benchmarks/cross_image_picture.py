"""Two photographs each: an example box on the first, what the model finds with it on the second.

    python -m benchmarks.cross_image_picture --nuclei FOLDER

The first searched images of `cross_image.py`, with its examples, so nothing is chosen by its result. Objects
are labelled with their scores; the line under each pair says how many were found of how many there are, at a
mask IoU of 0.5.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

import conceptseg as cs
from benchmarks.cross_image import Case, nuclei_cases
from conceptseg.evaluation.regions import encode_masks, region_iou
from conceptseg.exemplars.gap_pictures import ShownImage
from conceptseg.plots import POSITIVE_COLOR, draw_marks
from conceptseg.segmenter import Segmenter

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "cross_image.png"
HEIGHT = 320  # of every picture
STRIP = 20  # pixels of text under each pair
MASK_IOU = 0.5


def draw_case(segmenter: Segmenter, images: Sequence[ShownImage], case: Case, shots: int) -> Image.Image:
    """The images with the examples, then the searched one with what was found."""
    panels, concepts = [], []
    for number, shown in case.examples[:shots]:
        pixels = images[number].pixels
        concepts.append(segmenter.exemplar(Image.fromarray(pixels), boxes=[shown.box_xyxy]))
        panels.append(draw_marks(pixels, (), (), [(shown.box_xyxy, POSITIVE_COLOR)]))
    kind = sum(concepts[1:], start=concepts[0])
    searched = images[case.searched]
    result = segmenter.segment(Image.fromarray(searched.pixels), exemplar=kind)
    panels.append(result.plot())
    there = encode_masks([it.mask for it in searched.of(case.concept) if it.mask is not None])
    iou = region_iou(result.compact_masks.rles(), there, "masks")
    found = int((iou >= MASK_IOU).any(axis=0).sum()) if iou.size else 0
    panels = [panel.resize((round(panel.width * HEIGHT / panel.height), HEIGHT)) for panel in panels]
    sheet = Image.new("RGB", (sum(it.width + 6 for it in panels) - 6, HEIGHT + STRIP), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + 6
    says = f"{found} of {len(there)} found, {len(result.scores)} answers"
    ImageDraw.Draw(sheet).text((4, HEIGHT + 4), says, fill="black")
    return sheet


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="anything that conceptseg.load takes")
    parser.add_argument("--nuclei", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--pairs", type=int, default=4, help="searched images that are drawn")
    parser.add_argument("--shots", type=int, default=1, help="examples, each on an image of its own")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(words)
    segmenter = cs.load(options.model)
    images, cases = nuclei_cases(options.nuclei, options.pairs)
    drawn = [draw_case(segmenter, images, case, options.shots) for case in cases]
    rows = [drawn[i : i + 2] for i in range(0, len(drawn), 2)]
    width = max(sum(it.width + 16 for it in row) for row in rows)
    sheet = Image.new("RGB", (width, sum(row[0].height + 6 for row in rows)), "white")
    top = 0
    for row in rows:
        left = 0
        for it in row:
            sheet.paste(it, (left, top))
            left += it.width + 16
        top += row[0].height + 6
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.picture, optimize=True)
    print(f"wrote {options.picture}")


if __name__ == "__main__":
    main()
