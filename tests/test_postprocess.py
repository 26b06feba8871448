from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.config import PresenceCalibration
from conceptseg.postprocess import detection_scores, presence_probability


def test_scores_worked_by_hand():
    class_logits = torch.tensor([[0.0], [np.log(3)]])  # 1/2 and 3/4
    presence_logits = torch.tensor([-np.log(3)])  # 1/4
    calibration = PresenceCalibration(scale=-1.0, offset=0.0)  # turns 1/4 into 3/4
    for mode, expected in (
        ("multiply", [1 / 8, 3 / 16]),
        ("ignore", [1 / 2, 3 / 4]),
        ("calibrated", [3 / 8, 9 / 16]),
    ):
        scores = detection_scores(class_logits, presence_logits, mode, calibration)
        np.testing.assert_allclose(scores[:, 0], expected, atol=1e-6)
    assert float(presence_probability(presence_logits, "ignore", calibration)) == pytest.approx(1 / 4)


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
