import pytest
import torch

from conceptseg.dedupe import keep_distinct


def squares(*spans):
    masks = torch.full((len(spans), 20, 20), -1.0)
    for mask, (y0, x0, y1, x1) in zip(masks, spans, strict=True):
        mask[y0:y1, x0:x1] = 1
    return masks


def test_nms_drops_a_mask_that_overlaps_a_better_one_by_more_than_half():
    masks = squares((0, 0, 10, 10), (0, 0, 10, 9), (0, 5, 10, 15), (12, 12, 20, 20))
    assert keep_distinct(masks, "nms").tolist() == [True, False, True, True]


def test_nms_goes_by_kept_masks_only():
    # The third overlaps the second by more than half, but that one is gone, and it hardly overlaps the first.
    masks = squares((0, 0, 10, 10), (0, 3, 10, 13), (0, 6, 10, 16))
    assert keep_distinct(masks, "nms").tolist() == [True, False, True]


def test_containment_drops_parts_of_a_better_mask_but_not_a_better_part_of_it():
    car, wheel = (0, 0, 18, 18), (10, 2, 14, 6)
    assert keep_distinct(squares(car, wheel), "containment").tolist() == [True, False]
    assert keep_distinct(squares(wheel, car), "containment").tolist() == [True, True]
    assert keep_distinct(squares(car, wheel), "nms").tolist() == [True, True]


def test_empty_masks_repeat_nothing():
    for mode in ("nms", "containment"):
        assert keep_distinct(squares((0, 0, 0, 0), (0, 0, 5, 5), (0, 0, 0, 0)), mode).tolist() == [True] * 3


def test_segment_drops_repeats_and_keeps_the_best(tiny_segmenter, picture):
    whole = tiny_segmenter.segment(picture, text="coin", threshold=0)
    for mode in ("nms", "containment"):
        distinct = tiny_segmenter.segment(picture, text="coin", threshold=0, dedupe=mode)
        assert 1 <= len(distinct) <= len(whole)
        assert set(distinct.scores.tolist()) <= set(whole.scores.tolist())
        assert distinct.scores[0] == whole.scores[0]


@pytest.mark.parametrize("mode", ["nms", "containment"])
def test_the_models_config_says_what_happens_unless_told(tiny_segmenter, make_segmenter, picture, mode):
    whole = tiny_segmenter.segment(picture, text="coin", threshold=0)
    asked = tiny_segmenter.segment(picture, text="coin", threshold=0, dedupe=mode)
    told = make_segmenter(dedupe=mode)
    unasked = told.segment(picture, text="coin", threshold=0)
    assert unasked.scores.tolist() == asked.scores.tolist() != whole.scores.tolist()
    refused = told.segment(picture, text="coin", threshold=0, dedupe="none")
    assert refused.scores.tolist() == whole.scores.tolist()
