"""Composites as training sees them, with the objects they show outlined.

    python benchmarks/composite_sheet.py --data PHOTOS

Takes the composites of the recipe nano-photographs (cut out of labelled photographs, pasted on others)
and writes docs/images/composites.jpg. The same pictures every time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402  # after the path
from PIL import Image  # noqa: E402

from conceptseg.data.composites import Composite  # noqa: E402
from conceptseg.data.mixture.composites import composite_pairs  # noqa: E402
from conceptseg.data.mixture.config import CompositeSource  # noqa: E402
from conceptseg.data.mixture.datasets import Opened, read_names  # noqa: E402
from conceptseg.train.recipe import load_recipe  # noqa: E402

SIDE, COLUMNS, ROWS = 256, 6, 3
GAP = 6


def outlined(composite: Composite) -> np.ndarray:
    """(side, side, 3): each object with a bright edge, one colour a name."""
    picture = composite.pixels.copy()
    names = list(dict.fromkeys(composite.names))
    for name, mask in zip(composite.names, composite.masks, strict=True):
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-2, 2):
                inner &= np.roll(mask, step, axis)
        hue = (names.index(name) * 0.31 + 0.05) % 1.0
        colour = np.array(Image.new("HSV", (1, 1), (int(255 * hue), 220, 255)).convert("RGB"))[0, 0]
        picture[mask & ~inner] = colour
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "composites.jpg")
    options = parser.parse_args()
    config = load_recipe("nano-photographs", [f"data.root={options.data}"]).data
    source = next(source for source in config.sources if isinstance(source, CompositeSource))
    pairs = composite_pairs(source, config, Opened(config, held_out=False), read_names(config))
    cells = []
    for seed in range(COLUMNS * ROWS):
        rng = np.random.default_rng((7, seed))
        cells.append(outlined(pairs.draw(pairs.kinds(rng), SIDE, rng)))
    sheet = np.full((ROWS * (SIDE + GAP) - GAP, COLUMNS * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        row, column = divmod(place, COLUMNS)
        top, left = row * (SIDE + GAP), column * (SIDE + GAP)
        sheet[top : top + SIDE, left : left + SIDE] = cell
    Image.fromarray(sheet).save(options.out, quality=88)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
