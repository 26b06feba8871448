"""Twelve photographs that no training saw: what was asked, and what came. Eight work, four do not.

    python benchmarks/gallery.py --data PHOTOS

PHOTOS holds the folders of photographs (docs/training-nano.md); the pictures are held out, and may be shown.
Writes docs/images/gallery.jpg and benchmarks/results/gallery.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image, ImageDraw, ImageFont  # noqa: E402  # after the path, as below

import conceptseg as cs  # noqa: E402
from benchmarks.photograph_list import CREDITS, read_photograph  # noqa: E402
from conceptseg.checkpoints.atomic_write import write_text  # noqa: E402
from conceptseg.report import markdown_table  # noqa: E402

COLUMNS, TILE, LINE = 4, (380, 300), 20  # pixels
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shown:
    """One photograph and one prompt."""

    picture: str  # a function of skimage.data, or a path below the folder of photographs
    text: str | None = None
    box: Box | None = None  # one example: x0, y0, x1, y1 in pixels of the photograph
    works: bool = True
    why: str = ""  # what is wrong, where it does not work

    @property
    def asked(self) -> str:
        return f'"{self.text}"' if self.text is not None else "one box"


GALLERY: tuple[Shown, ...] = ()


def open_picture(name: str, data: Path) -> Image.Image:
    """By its name, as large as a tile."""
    image = Image.open(data / name).convert("RGB") if "/" in name else Image.fromarray(read_photograph(name))
    scale = min(TILE[0] / image.width, (TILE[1] - LINE) / image.height)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def answer(segmenter: cs.Segmenter, shown: Shown, data: Path) -> tuple[Image.Image, cs.Result]:
    """The overlay and the result of one photograph."""
    image = open_picture(shown.picture, data)
    if shown.box is None:
        result = segmenter.segment(image, text=shown.text)
    else:
        whole = Image.open(data / shown.picture) if "/" in shown.picture else None
        width = whole.width if whole is not None else read_photograph(shown.picture).shape[1]
        scale = image.width / width
        result = segmenter.segment(image, boxes=[[side * scale for side in shown.box]])
    assert isinstance(result, cs.Result)
    return result.plot().convert("RGB"), result


def sheet(tiles: list[tuple[Image.Image, str]]) -> Image.Image:
    """Overlays with a line below each, in rows."""
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE[0], rows * TILE[1]), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for number, (overlay, line) in enumerate(tiles):
        left, top = number % COLUMNS * TILE[0], number // COLUMNS * TILE[1]
        page.paste(overlay, (left + (TILE[0] - overlay.width) // 2, top))
        draw.text((left + 4, top + TILE[1] - LINE + 1), line, fill="black", font=font)
    return page


def credit(name: str) -> str:
    """By whom, and under what terms."""
    if "/" not in name:
        return CREDITS[name]
    folder, file = name.split("/")[0], Path(name).stem
    return "clothing-dataset, CC0" if folder == "garments" else f"COCO 2017, {file}, CC BY 2.0"


def report(found: list[tuple[Shown, cs.Result]]) -> str:
    rows = []
    for number, (shown, result) in enumerate(found, start=1):
        best = f"{max(result.scores):.2f}" if len(result) else "-"
        outcome = "works" if shown.works else f"fails: {shown.why}"
        rows.append([str(number), shown.asked, str(len(result)), best, outcome, credit(shown.picture)])
    head = ["", "asked", "found", "best score", "looked at", "photograph"]
    return "# Twelve photographs that no training saw\n\n" + markdown_table(head, rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    segmenter = cs.load(options.model)
    tiles, found = [], []
    for number, shown in enumerate(GALLERY, start=1):
        overlay, result = answer(segmenter, shown, options.data)
        tiles.append((overlay, f"{number}. {shown.asked}: {len(result)} found"))
        found.append((shown, result))
    sheet(tiles).save(options.out / "gallery.jpg", quality=88, optimize=True)
    write_text(ROOT / "benchmarks" / "results" / "gallery.md", report(found))


if __name__ == "__main__":
    main()
