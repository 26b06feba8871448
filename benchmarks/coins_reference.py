"""Outline the 24 coins of the demo photograph with classical methods, as a reference to count against.

    python benchmarks/coins_reference.py

Light against the local background, holes filled, specks and glow dropped; then each outline moves onto the
strongest edge nearby (watershed). No learned model takes part. The result was compared with the photograph
coin by coin, enlarged fourfold, and is kept in git, so that the figures do not depend on the version of
scikit-image. To look for yourself, `--overlay coins.png` draws the outlines.

Writes benchmarks/coins_reference.png: 8-bit palette, 0 = background, 1 to 24 = coins in reading order.

Source: the steps of scikit-image's gallery example "Comparing edge-based and region-based segmentation",
which works on this photograph, with the background estimated instead of one threshold for all.
"""

from __future__ import annotations

import argparse
import colorsys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation

COINS, ROWS = 24, 4  # counted by eye
PHOTOGRAPH = Path(str(files("conceptseg") / "assets" / "coins.png"))
REFERENCE = Path(__file__).with_name("coins_reference.png")

CONTRAST = 14  # grey levels above the local background; enough for the faintest rims, top left
BACKGROUND_SIGMA = 20.0  # pixels; more than the gaps between coins, less than the fall of the light
SLACK = 4  # pixels that an outline may move to find its edge
OPENING = (
    12  # pixels of radius; less than the smallest coin's 18, more than the bridge to the lower right corner
)
LEAST_SOLIDITY, MOST_ECCENTRICITY = 0.95, 0.6  # every coin is rounder than that, the glow at the top is not

Labels = npt.NDArray[np.uint8]


def segment_coins(grey: npt.NDArray[np.uint8]) -> Labels:
    """Label every coin.

    Args:
        grey: (H, W), the photograph.

    Returns:
        (H, W), 0 = background, 1 to 24 in reading order.
    """
    smooth = filters.gaussian(grey.astype(float), 1.0)
    rough = _roughly(smooth)
    seeds, outside = _markers(rough)
    markers = np.where(outside, rough.max() + 1, seeds)
    grown = segmentation.watershed(filters.sobel(smooth), markers)
    grown[grown == rough.max() + 1] = 0

    labels = np.zeros(grey.shape, np.uint8)
    for number, region in enumerate(_in_reading_order(grown), start=1):
        coin = ndimage.binary_fill_holes(grown == region.label)
        labels[morphology.opening(coin, morphology.disk(3))] = number  # without whiskers along the rim
    return labels


def _roughly(smooth: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Coins as what is lighter than the background around, which is estimated without them: (H, W) labels."""
    foreground = morphology.dilation(smooth > filters.threshold_otsu(smooth), morphology.disk(5))
    for _ in range(3):  # a better background finds better coins, and they give a better background
        weight = filters.gaussian((~foreground).astype(float), BACKGROUND_SIGMA)
        background = filters.gaussian(np.where(foreground, 0.0, smooth), BACKGROUND_SIGMA)
        light = smooth - background / np.maximum(weight, 1e-6) > CONTRAST
        light = ndimage.binary_fill_holes(morphology.opening(light, morphology.disk(1)))
        coins = morphology.opening(light, morphology.disk(OPENING))
        foreground = morphology.dilation(coins, morphology.disk(SLACK))
    labels = measure.label(coins)
    for region in measure.regionprops(labels):
        if region.solidity < LEAST_SOLIDITY or region.eccentricity > MOST_ECCENTRICITY:
            labels[labels == region.label] = 0
    return labels


def _markers(
    rough: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What surely is each coin, and what surely is none: the edge lies between."""
    shape = morphology.disk(SLACK)
    return np.where(morphology.erosion(rough > 0, shape), rough, 0), ~morphology.dilation(rough > 0, shape)


def _in_reading_order(labels: npt.NDArray[np.int64]) -> list[Any]:
    """Regions of skimage.measure, row by row, left to right."""
    regions = sorted(measure.regionprops(labels), key=lambda region: region.centroid[0])
    if len(regions) != COINS:
        raise SystemExit(f"found {len(regions)} coins, there are {COINS}")
    each = COINS // ROWS
    rows = [regions[start : start + each] for start in range(0, COINS, each)]
    return [region for row in rows for region in sorted(row, key=lambda region: region.centroid[1])]


def save_labels(labels: Labels, path: Path) -> None:
    """Write an 8-bit palette PNG: the numbers are the labels, the colours are for looking."""
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    colours = [colorsys.hsv_to_rgb(0.382 * number % 1, 0.6, 1.0) for number in range(COINS)]
    picture.putpalette([0, 0, 0] + [round(255 * part) for colour in colours for part in colour])
    picture.save(path, optimize=True)


def draw_outlines(grey: npt.NDArray[np.uint8], labels: Labels, scale: int = 4) -> Image.Image:
    """The photograph enlarged, a red line on the outermost pixels of every coin."""
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    pixels = np.array(Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS).convert("RGB"))
    large = np.kron(labels, np.ones((scale, scale), np.uint8))
    pixels[segmentation.find_boundaries(large, mode="inner")] = (255, 60, 0)
    return Image.fromarray(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the reference outlines of the 24 coins.")
    parser.add_argument("--out", type=Path, default=REFERENCE)
    parser.add_argument("--overlay", type=Path, help="also draw the outlines on the photograph, enlarged")
    arguments = parser.parse_args()
    grey = np.asarray(Image.open(PHOTOGRAPH).convert("L"))
    labels = segment_coins(grey)
    save_labels(labels, arguments.out)
    if arguments.overlay:
        draw_outlines(grey, labels).save(arguments.overlay)
    sizes = np.bincount(labels.ravel())[1:]
    print(f"{len(sizes)} coins of {sizes.min()} to {sizes.max()} pixels")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
