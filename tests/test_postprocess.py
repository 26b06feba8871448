from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.postprocess import windows_around


def test_postprocessing_equals_that_of_transformers_but_for_the_order_of_sigmoid_and_resize(
    tiny_segmenter, picture
):
    processing = pytest.importorskip("transformers.models.sam3.image_processing_sam3")
    ours = tiny_segmenter.segment(picture, text="coin", threshold=0.05, presence="multiply", return_raw=True)
    raw = ours.raw
    outputs = SimpleNamespace(
        pred_logits=raw.class_logits[-1].T,
        pred_boxes=cxcywh_to_xyxy(raw.boxes_cxcywh[-1].transpose(0, 1)),
        pred_masks=raw.mask_logits,
        presence_logits=raw.presence_logits[-1][:, None],
    )
    (theirs,) = processing.Sam3ImageProcessor().post_process_instance_segmentation(
        outputs, threshold=0.05, target_sizes=[(60, 90)]
    )
    order = theirs["scores"].argsort(descending=True)
    np.testing.assert_allclose(ours.scores, theirs["scores"][order], atol=1e-6)
    np.testing.assert_allclose(ours.boxes, theirs["boxes"][order], atol=1e-4)
    # They resize probabilities, the official code resizes logits; masks agree but along their edges.
    assert (ours.masks != theirs["masks"][order].bool().numpy()).mean() < 0.02
    # Resizing logits is what we do to the pixel.
    resized = torch.nn.functional.interpolate(raw.mask_logits, (60, 90), mode="bilinear")[0]
    kept = (raw.class_logits[-1, :, 0].sigmoid() * raw.presence_logits[-1, 0].sigmoid()).argsort(
        descending=True
    )
    assert np.array_equal(ours.masks, (resized.sigmoid() > 0.5)[kept][: len(ours)].numpy())


def test_windows_grow_their_boxes_by_the_margin_and_end_at_the_image():
    boxes = np.array([[10, 5, 20, 15], [-3, 2, 7, 40], [12.4, 9.6, 12.4, 9.6], [-9, -9, -2, -2]], np.float32)
    first, second, *nothing = windows_around(boxes, 0.2, (20, 30))
    assert first == (8, 3, 22, 17)  # 2 pixels on every side
    assert second == (0, 0, 9, 20)  # 2 to the right; it goes over the edges everywhere else
    assert all(left >= right or top >= bottom for left, top, right, bottom in nothing)  # no side, and outside


def test_the_models_config_says_how_far_masks_go(tiny_segmenter, make_segmenter, picture):
    whole = tiny_segmenter.segment(picture, text="coin", threshold=0)
    cut = make_segmenter(mask_margin=0.1).segment(picture, text="coin", threshold=0)
    np.testing.assert_array_equal(cut.boxes, whole.boxes)
    assert whole.masks.sum() > cut.masks.sum() > 0
    for mask, uncut, window in zip(
        cut.masks, whole.masks, windows_around(whole.boxes, 0.1, (60, 90)), strict=True
    ):
        left, top, right, bottom = window
        expected = np.zeros_like(uncut)
        expected[top:bottom, left:right] = uncut[top:bottom, left:right]
        np.testing.assert_array_equal(mask, expected)
