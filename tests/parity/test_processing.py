"""What happens before and after the network, against `transformers`' image processor of SAM 3.

It resizes probabilities where the official code, and so ours, resizes logits. That moves pixels on the edges
of masks and nothing else, which is what these tests hold it to.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from conceptseg.images import LoadedImage, load_image, model_input
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import RawOutput
from conceptseg.models.mask_head import MaskHead
from conceptseg.postprocess import read_result
from conceptseg.result import Result
from conceptseg.segment_options import check_options

processing = pytest.importorskip("transformers.models.sam3.image_processing_sam3")

GREY_LEVEL = 1 / 255 / 0.5  # one of 256 levels, after normalisation with a standard deviation of 0.5
QUERIES, WIDTH, SIDE = 40, 16, 36  # masks are SIDE x SIDE
SIZES_HW = [(60, 90), (SIDE, SIDE), (25, 130)]  # enlarged, as decoded, shrunk in one direction
THRESHOLD = 0.2


@pytest.fixture(scope="module")
def processor() -> Any:
    return processing.Sam3ImageProcessor()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size_hw", [(60, 90), (1500, 700), (1008, 1008), (5, 2000)], ids=str)
@pytest.mark.parametrize(
    "given",
    [Image.fromarray, lambda pixels: pixels, lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1)],
    ids=["PIL", "numpy", "torch"],
)
def test_pixels_equal_those_of_transformers(processor: Any, size_hw: tuple[int, int], given: Any) -> None:
    image = given(noise(*size_hw))
    theirs = processor(image, return_tensors="pt").pixel_values[0]
    ours = model_input(load_image(image).pixels, 1008)
    assert ours.shape == theirs.shape == (3, 1008, 1008)
    assert (ours - theirs).abs().max() < GREY_LEVEL + 1e-6
    assert (ours - theirs).abs().mean() < 1e-3  # a level apart here and there, not everywhere


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_colour_modes_become_the_pixels_that_transformers_makes_of_them(processor: Any, mode: str) -> None:
    image = Image.fromarray(noise(50, 70)).convert(mode)
    theirs = processor(image, return_tensors="pt").pixel_values[0]
    assert (model_input(load_image(image).pixels, 1008) - theirs).abs().max() < GREY_LEVEL + 1e-6


@pytest.fixture(scope="module")
def raw() -> RawOutput:
    """Raw outputs for one prompt on each of three images: smooth masks, scores on both sides of the limit."""
    generator = torch.Generator().manual_seed(3)
    pairs = len(SIZES_HW)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    torch.manual_seed(3)
    head = MaskHead(WIDTH, heads=2, upsampling_stages=1, group_norm_groups=2).eval()
    coarse = random(pairs, WIDTH, 6, 6) * 6
    pixels = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic")
    hidden = random(QUERIES, pairs, WIDTH) * 3
    centre, size = random(1, QUERIES, pairs, 2).sigmoid(), random(1, QUERIES, pairs, 2).sigmoid()
    with torch.no_grad():
        mask_logits = head.instance_logits(pixels, hidden)
    return RawOutput(
        class_logits=random(1, QUERIES, pairs) * 2,
        boxes_cxcywh=torch.cat((centre, size), dim=-1),
        presence_logits=torch.tensor([[3.0, 0.5, -0.5]]),
        hidden=hidden,
        mask_logits=mask_logits,
        semantic_logits=torch.zeros(pairs, 1, SIDE, SIDE),
    )


def read_ours(raw: RawOutput, pair: int, threshold: float = THRESHOLD) -> Result:
    image = LoadedImage(np.zeros((*SIZES_HW[pair], 3), np.uint8), "image")
    options = check_options(ModelConfig(), 1, {})
    with torch.no_grad():
        return read_result(raw, pair, phrase="x", image=image, threshold=threshold, options=options)


def read_theirs(
    processor: Any, output: RawOutput, masks: Tensor | None = None, threshold: float = THRESHOLD
) -> list[dict[str, Tensor]]:
    """All images of the batch; results brought into our order, best score first."""
    outputs = SimpleNamespace(
        pred_logits=output.class_logits[-1].T,
        pred_boxes=cxcywh_to_xyxy(output.boxes_cxcywh[-1]).transpose(0, 1),
        pred_masks=output.mask_logits if masks is None else masks,
        presence_logits=output.presence_logits[-1][:, None],
    )
    found = []
    for result in processor.post_process_instance_segmentation(
        outputs, threshold=threshold, target_sizes=SIZES_HW
    ):
        order = result["scores"].argsort(descending=True, stable=True)
        found.append({name: value[order] for name, value in result.items()})
    return found


def test_scores_and_boxes_of_a_batch_equal_those_of_transformers(processor: Any, raw: RawOutput) -> None:
    for pair, theirs in enumerate(read_theirs(processor, raw)):
        ours = read_ours(raw, pair)
        assert 0 < len(ours) < QUERIES
        np.testing.assert_allclose(ours.scores, theirs["scores"], atol=1e-6)
        np.testing.assert_allclose(ours.boxes, theirs["boxes"], atol=1e-4)


def test_masks_equal_those_that_transformers_reads_of_logits_resized_first(
    processor: Any, raw: RawOutput
) -> None:
    for pair, size_hw in enumerate(SIZES_HW):
        resized = F.interpolate(raw.mask_logits, size_hw, mode="bilinear")
        theirs = read_theirs(processor, raw, masks=resized)[pair]
        masks = theirs["masks"].bool().numpy()
        assert 0.05 < masks.mean() < 0.95
        assert np.array_equal(read_ours(raw, pair).masks, masks)


def test_masks_differ_from_those_of_transformers_only_where_neighbouring_logits_differ_in_sign(
    processor: Any, raw: RawOutput
) -> None:
    apart = []
    for pair, theirs in enumerate(read_theirs(processor, raw)):
        ours = read_ours(raw, pair)
        different = ours.masks != theirs["masks"].bool().numpy()
        by_score = (raw.class_logits[-1, :, pair].sigmoid()).argsort(descending=True, stable=True)
        logits = raw.mask_logits[pair, by_score][: len(ours)]  # (N, h, w)
        inside = F.interpolate((logits > 0)[None].float(), SIZES_HW[pair], mode="bilinear")[0]
        on_an_edge = ((inside > 0) & (inside < 1)).numpy()
        assert not (different & ~on_an_edge).any()
        apart.append(different.mean())
    assert apart[1] == 0  # nothing is resized, so there is no order to differ in
    assert 0 < apart[0] < 0.05


def test_a_score_at_the_threshold_is_dropped_by_both(processor: Any, raw: RawOutput) -> None:
    level = torch.zeros_like(raw.class_logits)  # sigmoid(0) is 0.5 to the last bit
    level[:, :4] = 1.0
    certain = torch.full_like(raw.presence_logits, 100.0)
    at_the_limit = dataclasses.replace(raw, class_logits=level, presence_logits=certain)
    assert len(read_ours(at_the_limit, 0, threshold=0.5)) == 4
    assert len(read_theirs(processor, at_the_limit, threshold=0.5)[0]["scores"]) == 4
