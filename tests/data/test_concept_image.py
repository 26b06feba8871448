"""Masks of a labelled object, in each form they are annotated in."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from conceptseg.data.concept_image import ConceptObject
from conceptseg.errors import DataError
from tests.data.formats.datasets import SQUARE, rle

BOX = (10.0, 10.0, 30.0, 20.0)
INSIDE = np.zeros((30, 40), bool)
INSIDE[10:20, 10:30] = True


@pytest.mark.parametrize("mask", [[SQUARE], rle(30, 40, 10, 10, 30, 20)], ids=["polygon", "run lengths"])
def test_a_mask_decodes_to_its_pixels(mask: object) -> None:
    it = ConceptObject(BOX, mask)  # type: ignore[arg-type]
    decoded = it.decode(30, 40)
    assert decoded is not None and decoded.dtype == np.bool_
    assert np.array_equal(decoded, INSIDE)
    assert coco_mask.area(it.rle(30, 40)) == 200


def test_an_object_of_several_polygons_is_their_union() -> None:
    left, right = [0, 0, 5, 0, 5, 5, 0, 5], [20, 0, 25, 0, 25, 5, 20, 5]
    mask = ConceptObject((0, 0, 25, 5), [left, right]).decode(30, 40)
    assert mask is not None
    assert mask.sum() == 50


def test_an_object_with_only_a_box_has_no_mask() -> None:
    assert ConceptObject(BOX).decode(30, 40) is None
    assert ConceptObject(BOX).rle(30, 40) is None


def test_a_mask_of_another_picture_is_refused() -> None:
    with pytest.raises(DataError, match=r"\[30, 40\].*\[60, 80\]"):
        ConceptObject(BOX, rle(30, 40, 10, 10, 30, 20)).decode(60, 80)


@pytest.mark.parametrize("counts", ["", "nf\\1<c", "zzzz", "nnnnnnnn", "\x00", "l"])
def test_damaged_run_lengths_are_refused_and_not_filled_with_old_memory(counts: str) -> None:
    with pytest.raises(DataError, match="damaged"):
        ConceptObject(BOX, {"size": [30, 40], "counts": counts}).decode(30, 40)


def test_every_mask_that_pycocotools_writes_is_taken() -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.01, 0.3, 0.5, 0.99, 1.0):
        mask = rng.random((50, 70)) < density
        counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        decoded = ConceptObject(BOX, {"size": [50, 70], "counts": counts}).decode(50, 70)
        assert decoded is not None and np.array_equal(decoded, mask)
