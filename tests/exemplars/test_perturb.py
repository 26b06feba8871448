"""Changed pictures: what changes, and what does not."""

from __future__ import annotations

import numpy as np

from conceptseg.exemplars.gap_pictures import ShownObject
from conceptseg.exemplars.perturb import another, on_another_background, partly_covered, zoom

HEIGHT, WIDTH = 60, 90


def square(side: int = 12) -> tuple[np.ndarray, ShownObject]:
    """A white square about (30, 24) on black."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    half = side // 2
    mask[24 - half : 24 + half, 30 - half : 30 + half] = True
    pixels[mask] = 255
    return pixels, ShownObject("square", (30.0 - half, 24.0 - half, 30.0 + half, 24.0 + half), mask)


def test_zooming_keeps_the_centre_and_scales_the_box() -> None:
    pixels, it = square()
    for factor, box in ((2.0, (18, 12, 42, 36)), (0.5, (27, 21, 33, 27)), (1.0, (24, 18, 36, 30))):
        zoomed = zoom(pixels, it, factor)
        assert zoomed is not None and zoomed[1] == box
        x0, y0, x1, y1 = box
        picture = zoomed[0]
        assert picture.shape == pixels.shape
        assert picture[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 200
        assert picture[y0 - 2, x0 - 2 : x1 + 2].max() == picture[y0:y1, x1 + 1].max() == 0


def test_what_would_not_fit_is_not_enlarged() -> None:
    pixels, it = square(40)
    assert zoom(pixels, it, 2.0) is None and zoom(pixels, it, 0.5) is not None


def test_a_picture_that_shrinks_is_continued_by_its_mirror_image() -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    zoomed = zoom(pixels, square()[1], 0.5)
    assert zoomed is not None and (zoomed[0] == 90).all()


def test_another_background_keeps_the_object() -> None:
    pixels, it = square()
    other = np.full((30, 30, 3), 77, np.uint8)
    changed = on_another_background(pixels, it, other)
    assert changed is not None and it.mask is not None
    assert (changed[it.mask] == 255).all() and (changed[~it.mask] == 77).all()
    boxed = ShownObject("square", it.box_xyxy)
    assert on_another_background(pixels, boxed, other) is None


def test_a_part_of_the_box_is_covered_and_nothing_else() -> None:
    pixels, it = square(20)
    for seed in range(8):
        changed = partly_covered(pixels, it, np.full_like(pixels, 77), np.random.default_rng(seed))
        hidden = (changed == 77).all(-1)
        assert hidden.sum() == 0.4 * 20 * 20
        assert (changed[~hidden] == pixels[~hidden]).all() and it.mask is not None and it.mask[hidden].all()
    assert (pixels != 77).all()


def test_the_only_picture_is_changed_with_itself_upside_down() -> None:
    pixels, it = square()
    other = another([pixels], 0)
    assert not np.array_equal(other, pixels) and np.array_equal(other[::-1, ::-1], pixels)
    changed = partly_covered(pixels, it, other, np.random.default_rng(0))
    assert not np.array_equal(changed, pixels)
    assert another([pixels, other], 1) is pixels
