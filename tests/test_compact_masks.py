import numpy as np
import pytest
from pycocotools import mask as coco_mask

from conceptseg.compact_masks import CompactMasks, runs_of
from conceptseg.errors import ShapeError


def masks_of_all_kinds() -> np.ndarray:
    """(8, 17, 23): nothing, everything, over the edges, one pixel in two corners, and noise."""
    masks = np.zeros((8, 17, 23), dtype=bool)
    masks[1] = True
    masks[2, :, 4:9] = True  # its runs go on from column to column
    masks[3, 10:, :] = True
    masks[4, 0, 0] = masks[4, -1, -1] = True
    masks[5:] = np.random.default_rng(0).random((3, 17, 23)) > 0.6
    return masks


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # inside pycocotools
def test_masks_come_back_whole_and_their_run_lengths_are_those_of_pycocotools():
    masks = masks_of_all_kinds()
    compact = CompactMasks.from_whole(masks)
    assert np.array_equal(compact.whole(), masks) and np.array_equal(np.stack(list(compact)), masks)
    assert compact.areas().tolist() == masks.sum((1, 2)).tolist()
    assert compact.rles() == coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))


def test_a_crop_is_the_mask_within_its_window():
    masks = masks_of_all_kinds()
    compact = CompactMasks.from_whole(masks)
    assert [compact.window(number) for number in range(4)] == [
        (0, 0, 0, 0),
        (0, 0, 23, 17),
        (4, 0, 9, 17),
        (0, 10, 23, 17),
    ]
    for number, mask in enumerate(masks):
        left, top, right, bottom = compact.window(number)
        assert np.array_equal(compact.crop(number), mask[top:bottom, left:right])
        assert compact.crop(number).sum() == mask.sum()


def test_runs_of_a_part_are_those_of_the_whole_mask():
    mask = masks_of_all_kinds()[5]
    mask[:3], mask[:, :5] = False, False
    assert np.array_equal(runs_of(mask[3:, 5:], (5, 3), 17), runs_of(mask, (0, 0), 17))


def test_no_masks_keep_the_size_of_their_image():
    compact = CompactMasks.from_whole(np.zeros((0, 4, 5), dtype=bool))
    assert len(compact) == 0 and compact.whole().shape == (0, 4, 5) and compact.rles() == []
    with pytest.raises(ShapeError, match=r"masks have shape \(4, 5\); \(N, H, W\) is needed"):
        CompactMasks.from_whole(np.zeros((4, 5), dtype=bool))
