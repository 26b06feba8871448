from functools import reduce

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage
from skimage.draw import polygon2mask

from conceptseg.compact_masks import CompactMasks
from conceptseg.polygons import joined, mask_polygons


def shapes(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "noise":  # full of holes, and of pixels that touch by a corner only
        return rng.random((40, 31)) > 0.4
    if kind == "ring":
        y, x = np.mgrid[:60, :90]
        return np.abs(np.hypot(y - 30, x - 45) - 20) < 6
    return ndimage.gaussian_filter(rng.normal(size=(90, 120)), 7) > 0.02


def filled(polygon: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Pixels whose middle is inside."""
    return polygon2mask(size_hw, polygon[:, ::-1] - 0.5)


@pytest.mark.parametrize("kind", ["noise", "ring", "blobs"])
def test_polygons_fill_exactly_the_pixels_of_the_mask(kind):
    mask = shapes(kind)
    polygons = mask_polygons(CompactMasks.from_whole(mask[None]), 0)
    assert len(polygons) == ndimage.label(mask)[1]
    assert np.array_equal(sum(filled(polygon, mask.shape).astype(int) for polygon in polygons), mask)
    one = reduce(joined, polygons)
    assert np.array_equal(filled(one, mask.shape), mask)
    rles = coco_mask.frPyObjects([one.ravel().tolist()], *mask.shape)
    assert np.array_equal(coco_mask.decode(rles[0]), mask)


def test_holes_go_round_the_other_way_so_that_they_are_not_counted_as_area():
    mask = shapes("ring")
    (polygon,) = mask_polygons(CompactMasks.from_whole(mask[None]), 0)
    x, y = polygon.T
    assert (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == mask.sum()


def test_a_tolerance_takes_most_corners_and_hardly_any_area():
    masks = CompactMasks.from_whole(shapes("blobs")[None])
    every, few = mask_polygons(masks, 0), mask_polygons(masks, 0, tolerance=1.0)
    assert sum(map(len, few)) < sum(map(len, every)) / 3
    area = sum(filled(polygon, (90, 120)) for polygon in few)
    assert (area & shapes("blobs")).sum() / (area | shapes("blobs")).sum() > 0.95


def test_thin_things_and_nothing():
    masks = np.zeros((3, 9, 9), dtype=bool)
    masks[0, 4, 4] = masks[1, 2, 1:8] = True
    compact = CompactMasks.from_whole(masks)
    (pixel,), (line,) = (mask_polygons(compact, number, tolerance=1.0) for number in (0, 1))
    assert sorted(map(tuple, pixel)) == [(4, 4), (4, 5), (5, 4), (5, 5)]
    assert filled(line, (9, 9)).sum() == 7
    assert mask_polygons(compact, 2) == []
