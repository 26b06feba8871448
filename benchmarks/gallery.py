"""Twelve photographs that no training saw: what was asked, and what came. Eight work, four do not.

    python benchmarks/gallery.py --data PHOTOS

PHOTOS holds the folders of photographs (docs/training-nano.md); the pictures are held out, and may be shown.
Writes docs/images/gallery.jpg, photographs.png (four of them, for the README) and results/gallery.md.
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
STRIP, STRIP_HEIGHT = (0, 1, 2, 5), 280  # of the gallery, for the README
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


FLICKR = {  # where each photographer shows the picture
    "000000000285": "http://farm8.staticflickr.com/7434/9138147604_c6225224b8_z.jpg",
    "000000000459": "http://farm4.staticflickr.com/3051/4649315302_7f9d077ecf_z.jpg",
    "000000000471": "http://farm1.staticflickr.com/48/124140140_1fcfaec779_z.jpg",
    "000000000790": "http://farm9.staticflickr.com/8292/7866247804_e0486b75b8_z.jpg",
    "000000121647": "http://farm5.staticflickr.com/4143/4801592343_9090102314_z.jpg",
    "000000360452": "http://farm6.staticflickr.com/5442/8788408976_ea7aebc555_z.jpg",
    "000000475678": "http://farm4.staticflickr.com/3572/3337847570_4c8d6dd100_z.jpg",
    "000000565778": "http://farm6.staticflickr.com/5523/9117236902_bea84134a9_z.jpg",
}
EVERYDAY = "everyday/valid/000000{}.jpg"
GALLERY = (
    Shown("astronaut", text="person"),
    Shown(EVERYDAY.format("360452"), box=(202, 87, 268, 194)),  # the batter; the other player is found too
    Shown(EVERYDAY.format("121647"), text="pizza"),
    Shown(EVERYDAY.format("000459"), text="person"),
    Shown(EVERYDAY.format("000471"), box=(60, 56, 290, 163)),
    Shown(EVERYDAY.format("000285"), box=(0, 34, 293, 316)),
    Shown("garments/valid/29c2d4f8f682.jpg", text="hat"),
    Shown("garments/valid/03229a43ab8f.jpg", text="trousers"),
    Shown(EVERYDAY.format("000790"), text="person", works=False, why="two of the four are missed"),
    Shown("coffee", text="cup", works=False, why="the saucer is taken along"),
    Shown(EVERYDAY.format("475678"), box=(213, 55, 310, 230), works=False, why="one of many, and half of it"),
    Shown(EVERYDAY.format("565778"), text="train", works=False, why="it saw a handful of trains"),
)


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


def strip(overlays: list[Image.Image]) -> Image.Image:
    """Overlays side by side, equally high: the picture of the README."""
    high = [one.resize((round(one.width * STRIP_HEIGHT / one.height), STRIP_HEIGHT)) for one in overlays]
    page = Image.new("RGB", (sum(one.width for one in high) + 6 * (len(high) - 1), STRIP_HEIGHT), "white")
    left = 0
    for one in high:
        page.paste(one, (left, 0))
        left += one.width + 6
    return page


def credit(name: str) -> str:
    """By whom, and under what terms."""
    if "/" not in name:
        return CREDITS[name]
    folder, file = name.split("/")[0], Path(name).stem
    return (
        "clothing-dataset, CC0" if folder == "garments" else f"COCO 2017, {file}, [CC BY 2.0]({FLICKR[file]})"
    )


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
    strip([tiles[number][0] for number in STRIP]).save(options.out / "photographs.png", optimize=True)
    write_text(ROOT / "benchmarks" / "results" / "gallery.md", report(found))


if __name__ == "__main__":
    main()
