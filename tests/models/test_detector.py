"""What the whole network promises, whatever its weights are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from conceptseg.models.build import build_detector
from conceptseg.models.detector import Detector, DetectorTrace, ImageFeatures
from conceptseg.models.prompts import GeometricPrompt, PromptTokens, join_prompts
from tests.models.tiny import (
    GRID,
    LAYERS,
    QUERIES,
    RESOLUTION,
    TINY,
    WIDTH,
    boxes,
    first,
    pixels,
    tiny_config,
    tiny_detector,
    token_ids,
)

MASK = 4 * GRID  # masks are four times finer than the image tokens


@pytest.fixture(scope="module")
def detector() -> Detector:
    return tiny_detector().requires_grad_(False)


@pytest.fixture(scope="module")
def image(detector: Detector) -> ImageFeatures:
    return detector.encode_images(pixels())


def outputs(output: DetectorTrace) -> list[Tensor]:
    return [
        output.class_logits,
        output.boxes_cxcywh,
        output.presence_logits,
        output.mask_logits,
        output.semantic_logits,
    ]


def assert_same(one: DetectorTrace, other: DetectorTrace) -> None:
    for a, b in zip(outputs(one), outputs(other), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def pair_of(output: DetectorTrace, pair: int) -> list[Tensor]:
    """The outputs for one pair of a batch, still with a batch dimension."""
    where = slice(pair, pair + 1)
    classes, box, presence, masks, semantic = outputs(output)
    return [classes[:, :, where], box[:, :, where], presence[:, where], masks[where], semantic[where]]


def test_outputs_have_the_documented_shapes(detector: Detector) -> None:
    output = detector(pixels(), token_ids(), boxes())
    shapes = [tuple(t.shape) for t in outputs(output)]
    assert shapes == [
        (LAYERS, QUERIES, 3),
        (LAYERS, QUERIES, 3, 4),
        (LAYERS, 3),
        (3, QUERIES, MASK, MASK),
        (3, 1, MASK, MASK),
    ]
    assert 0 <= output.boxes_cxcywh.min() and output.boxes_cxcywh.max() <= 1
    assert output.one_to_many is None


def test_padded_prompt_tokens_do_not_change_memory_or_outputs(
    detector: Detector, image: ImageFeatures
) -> None:
    index = torch.zeros(3, dtype=torch.long)
    prompt = join_prompts(detector.encode_text(token_ids()), detector.encode_exemplars(image, boxes(), index))
    noise = PromptTokens(50 * torch.randn(4, 3, WIDTH), torch.ones(3, 4, dtype=torch.bool))
    plain = detector.trace(image, index, prompt)
    for padded in (join_prompts(prompt, noise), join_prompts(noise, prompt)):
        output = detector.trace(image, index, padded)
        torch.testing.assert_close(output.fusion.memory, plain.fusion.memory, atol=1e-5, rtol=1e-5)
        assert_same(output, plain)


def test_padded_words_do_not_change_anything(detector: Detector) -> None:
    short, padded = token_ids()[:1, :3], token_ids()[:1]
    assert_same(detector(pixels(), padded), detector(pixels(), short))


def test_padded_boxes_do_not_change_anything(detector: Detector) -> None:
    plain = first(boxes(), 1)
    assert plain.boxes_cxcywh is not None and plain.box_labels is not None
    elsewhere = torch.tensor([[[0.1, 0.9, 0.7, 0.2], [5.0, -3.0, 2.0, 4.0]]])
    padded = GeometricPrompt(
        boxes_cxcywh=torch.cat((elsewhere, plain.boxes_cxcywh), dim=1),
        box_labels=torch.tensor([[1, -10, 1]]),
        box_padding=torch.tensor([[True, True, False]]),
    )
    ids = token_ids()[:1]
    assert_same(detector(pixels(), ids, padded), detector(pixels(), ids, plain))


def test_padded_points_do_not_change_anything(detector: Detector) -> None:
    plain = GeometricPrompt(points_xy=torch.tensor([[[0.3, 0.6]]]), point_labels=torch.tensor([[1]]))
    padded = GeometricPrompt(
        points_xy=torch.tensor([[[0.3, 0.6], [0.9, 0.1]]]),
        point_labels=torch.tensor([[1, 0]]),
        point_padding=torch.tensor([[False, True]]),
    )
    ids = token_ids()[:1]
    assert_same(detector(pixels(), ids, padded), detector(pixels(), ids, plain))


def test_text_alone_is_prompted_with_the_summary_token_too(detector: Detector) -> None:
    parts = detector(pixels(), token_ids())
    assert parts.exemplars is not None and parts.text is not None
    assert parts.exemplars.tokens.shape == (1, 3, WIDTH)
    assert not parts.exemplars.padding_mask.any()
    torch.testing.assert_close(
        parts.fusion.prompt.tokens, torch.cat((parts.text.tokens, parts.exemplars.tokens))
    )


@pytest.mark.parametrize(
    "nothing",
    [
        GeometricPrompt(),
        GeometricPrompt(torch.zeros(3, 0, 4), torch.zeros(3, 0, dtype=torch.long)),
        GeometricPrompt(
            torch.full((3, 2, 4), 0.5), torch.ones(3, 2).long(), torch.ones(3, 2, dtype=torch.bool)
        ),
    ],
    ids=["absent", "zero boxes", "padded boxes"],
)
def test_every_way_to_give_no_boxes_is_the_same(detector: Detector, nothing: GeometricPrompt) -> None:
    assert_same(detector(pixels(), token_ids(), nothing), detector(pixels(), token_ids()))


def test_prompts_of_a_batch_on_one_image_answer_as_they_do_alone(detector: Detector) -> None:
    together = detector(pixels(), token_ids(), boxes())
    for pair in range(3):
        alone = detector(pixels(), token_ids()[pair : pair + 1], first(boxes(), pair))
        for a, b in zip(pair_of(together, pair), outputs(alone), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_each_prompt_reads_the_image_that_its_index_names(detector: Detector) -> None:
    index = torch.tensor([1, 0, 1])
    together = detector(pixels(2), token_ids(), boxes(), index)
    for pair, which in enumerate(index.tolist()):
        alone = detector(pixels(2)[which : which + 1], token_ids()[pair : pair + 1], first(boxes(), pair))
        for a, b in zip(pair_of(together, pair), outputs(alone), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_without_an_index_prompts_and_images_go_in_pairs(detector: Detector) -> None:
    images = pixels(3)
    assert_same(detector(images, token_ids()), detector(images, token_ids(), image_index=torch.arange(3)))


def test_a_negative_box_is_not_a_positive_one(detector: Detector) -> None:
    positive = first(boxes(), 1)
    negative = dataclasses.replace(positive, box_labels=torch.zeros(1, 1, dtype=torch.long))
    ids = token_ids()[:1]
    difference = (
        detector(pixels(), ids, positive).class_logits - detector(pixels(), ids, negative).class_logits
    )
    assert difference.abs().max() > 0.01


def test_encoding_an_image_once_serves_every_prompt(detector: Detector, image: ImageFeatures) -> None:
    index = torch.zeros(3, dtype=torch.long)
    prompt = join_prompts(detector.encode_text(token_ids()), detector.encode_exemplars(image, boxes(), index))
    assert_same(detector.trace(image, index, prompt), detector(pixels(), token_ids(), boxes()))


@pytest.mark.parametrize("ask", ["detect", "trace", "raw"])
def test_masks_of_chosen_queries_are_those_of_all(ask: str, detector: Detector, image: ImageFeatures) -> None:
    index = torch.zeros(3, dtype=torch.long)
    prompt = join_prompts(detector.encode_text(token_ids()), detector.encode_exemplars(image, None, index))
    full = detector.trace(image, index, prompt).mask_logits
    output = getattr(detector, ask)(image, index, prompt)
    for pair, chosen in ((2, torch.tensor([4, 1])), (0, torch.tensor([3]))):
        torch.testing.assert_close(output.masks(pair, chosen), full[pair, chosen], atol=1e-5, rtol=1e-5)
    assert output.masks(1, torch.tensor([], dtype=torch.long)).shape == (0, MASK, MASK)


def test_answering_reads_the_prompt_and_keeps_its_parts(detector: Detector, image: ImageFeatures) -> None:
    index, words = torch.zeros(3, dtype=torch.long), detector.encode_text(token_ids())
    output = detector.answer(image, words, boxes(), index)
    assert_same(output, detector(pixels(), token_ids(), boxes()))
    assert output.text is words and output.exemplars is not None and len(output.exemplars.tokens) == 3


def test_boxes_may_lie_on_another_image_than_the_one_that_is_searched(detector: Detector) -> None:
    image, words = detector.encode_images(pixels(2)), detector.encode_text(token_ids())
    here, there = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    shown = detector.encode_exemplars(image, boxes(), there)
    expected = detector.trace(image, here, join_prompts(words, shown))
    assert_same(detector.answer(image, words, boxes(), here, there), expected)


def test_pixels_are_decoded_for_the_pairs_that_have_something_to_show(
    detector: Detector, image: ImageFeatures
) -> None:
    index = torch.zeros(3, dtype=torch.long)
    prompt = join_prompts(detector.encode_text(token_ids()), detector.encode_exemplars(image, None, index))
    decoded: list[int] = []  # pairs, each time that pixels are decoded

    def note(norm: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        decoded.append(len(inputs[0]))

    with detector.mask_head.prompt_norm.register_forward_pre_hook(note):
        for output in (detector.detect(image, index, prompt), detector.trace(image, index, prompt)):
            decoded.clear()
            output.masks(0, torch.tensor([], dtype=torch.long))
            assert decoded == []
            for pair in (2, 0):
                output.masks(pair, torch.tensor([3]))
            assert decoded == [1, 1]
        trace = detector.trace(image, index, prompt)
        assert trace.mask_logits.shape == (3, QUERIES, MASK, MASK)
        trace.masks(2, torch.tensor([4, 1]))
        assert decoded == [1, 1, 3]  # once for all, and none of it again


def test_a_trace_holds_every_tensor_between_the_parts(detector: Detector) -> None:
    trace = detector(pixels(2), token_ids(), boxes(), torch.tensor([0, 1, 1]))
    assert trace.text is not None and trace.exemplars is not None
    tokens, words, exemplars = GRID * GRID, 6, 3
    assert [tuple(t.shape) for t in trace.image.trunk] == [(2, TINY.vision.width, GRID, GRID)]  # type: ignore[union-attr]
    assert [tuple(t.shape) for t in trace.image.levels] == [(2, WIDTH, GRID * s, GRID * s) for s in (4, 2, 1)]
    assert trace.text.tokens.shape == (words, 3, WIDTH)
    assert trace.exemplars.tokens.shape == (exemplars, 3, WIDTH)
    fusion, decoded = trace.fusion, trace.decoded
    assert fusion.prompt.tokens.shape == (words + exemplars, 3, WIDTH)
    assert fusion.prompt.padding_mask.shape == (3, words + exemplars)
    assert fusion.memory.shape == (tokens, 3, WIDTH)
    assert fusion.padding_mask is None
    assert fusion.positions.shape == (tokens, 1, WIDTH)
    assert fusion.level_start_index.tolist() == [0]
    assert fusion.spatial_shapes.tolist() == [[GRID, GRID]]
    assert fusion.valid_ratios.tolist() == [[[1.0, 1.0]]] * 3
    assert decoded.hidden.shape == (LAYERS, QUERIES, 3, WIDTH)
    assert decoded.reference_boxes.shape == (LAYERS, QUERIES, 3, 4)
    assert decoded.presence_logits.shape == (LAYERS, 3)
    assert decoded.presence_feature.shape == (1, 3, WIDTH)
    assert trace.pixels.shape == (3, WIDTH, MASK, MASK)


def test_two_levels_can_be_fused_together() -> None:
    detector = tiny_detector(fusion={"levels": 2}, decoder={"box_bias": False})
    output = detector(pixels(), token_ids(), boxes())
    assert output.fusion.level_start_index.tolist() == [0, 4 * GRID * GRID]
    assert output.fusion.spatial_shapes.tolist() == [[2 * GRID, 2 * GRID], [GRID, GRID]]
    assert output.fusion.memory.shape == (5 * GRID * GRID, 3, WIDTH)
    assert output.mask_logits.shape == (3, QUERIES, MASK, MASK)


@pytest.mark.parametrize("pool", ["mean", "masked_mean"])
def test_the_pooled_prompt_can_be_added_to_the_image(pool: str) -> None:
    detector = tiny_detector(fusion={"pool_prompt": pool})
    assert_same(detector(pixels(), token_ids()[1:2]), detector(pixels(), token_ids()[1:2]))
    short, padded = detector(pixels(), token_ids()[:1, :3]), detector(pixels(), token_ids()[:1])
    apart = (short.class_logits - padded.class_logits).abs().max()
    assert apart < 1e-4 if pool == "masked_mean" else apart > 1e-3  # the plain mean counts padding too


def test_training_reaches_every_parameter_that_the_released_model_uses() -> None:
    detector = tiny_detector().train()
    output = detector(pixels(), token_ids(), GeometricPrompt(**{**vars(boxes()), **points()}))
    assert output.one_to_many is not None
    total = sum(t.square().mean() for t in outputs(output))
    total += output.one_to_many.class_logits.square().mean() + output.one_to_many.boxes_cxcywh.square().mean()
    assert isinstance(total, Tensor)
    total.backward()
    idle = {n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()}
    # The released weights bring a coarsest neck level and a third mask convolution that nothing reads.
    unused = {
        n for n, _ in detector.named_parameters() if n.startswith(("neck.branches.3", "mask_head.convs.2"))
    }
    unused |= {n for n, _ in detector.named_parameters() if n.startswith("mask_head.norms.2")}
    assert idle == unused


def points() -> dict[str, Tensor]:
    return {"points_xy": torch.tensor([[[0.3, 0.6]]] * 3), "point_labels": torch.tensor([[1], [0], [1]])}


def test_only_training_runs_the_one_to_many_queries() -> None:
    detector = tiny_detector()
    assert detector(pixels(), token_ids()).one_to_many is None
    many = detector.train()(pixels(), token_ids()).one_to_many
    assert many.class_logits.shape == (LAYERS, QUERIES, 3)
    assert many.boxes_cxcywh.shape == (LAYERS, QUERIES, 3, 4)
    assert many.query_masks.all().shape == (3, QUERIES, MASK, MASK)
    without = tiny_detector(decoder={"one_to_many": False}).train()
    assert without(pixels(), token_ids()).one_to_many is None


def test_training_and_evaluation_answer_alike_without_dropout() -> None:
    detector = tiny_detector()
    evaluated = detector(pixels(), token_ids(), boxes())
    assert_same(detector.train()(pixels(), token_ids(), boxes()), evaluated)


def test_autocast_to_bfloat16_stays_near_float32(detector: Detector) -> None:
    plain = detector(pixels(), token_ids(), boxes())
    with torch.autocast("cpu", torch.bfloat16):
        rough = detector(pixels(), token_ids(), boxes())
    assert rough.boxes_cxcywh.dtype == torch.float32
    assert (rough.boxes_cxcywh - plain.boxes_cxcywh).abs().mean() < 0.03
    assert (rough.class_logits - plain.class_logits).abs().mean() < 0.1


def test_other_image_sizes_need_no_new_weights(detector: Detector) -> None:
    larger = torch.nn.functional.interpolate(pixels(), size=(2 * RESOLUTION, RESOLUTION))
    assert detector(larger, token_ids()).mask_logits.shape == (3, QUERIES, 2 * MASK, MASK)


class FlatDetector(torch.nn.Module):
    """Tensors in, tensors out: what an export wants."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self, pixels: Tensor, ids: Tensor, box: Tensor, label: Tensor, padding: Tensor, index: Tensor
    ) -> list[Tensor]:
        return outputs(self.detector(pixels, ids, GeometricPrompt(box, label, padding), index))


@pytest.mark.slow
def test_the_detector_exports_with_any_number_of_prompts_and_boxes() -> None:
    one = {"layers": 1}
    detector = tiny_detector(text={"depth": 1}, exemplar=one, fusion=one, decoder=one).requires_grad_(False)
    flat, prompt = FlatDetector(detector), boxes()
    assert (
        prompt.boxes_cxcywh is not None and prompt.box_labels is not None and prompt.box_padding is not None
    )
    geometry = (prompt.boxes_cxcywh, prompt.box_labels, prompt.box_padding)
    arguments = (pixels(2), token_ids(), *geometry, torch.tensor([0, 1, 0]))
    pair, box = torch.export.Dim("pair", min=1, max=64), torch.export.Dim("box", min=1, max=32)
    shapes = ({}, {0: pair}, {0: pair, 1: box}, {0: pair, 1: box}, {0: pair, 1: box}, {0: pair})
    exported = torch.export.export(flat, arguments, dynamic_shapes=shapes, strict=False).module()
    fewer = (pixels(2), token_ids()[:2], *(g[:2, :1] for g in geometry), torch.tensor([1, 1]))
    for inputs in (arguments, fewer):
        for a, b in zip(exported(*inputs), flat(*inputs), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_detector_compiles_to_one_graph(detector: Detector) -> None:
    compiled = torch.compile(detector, backend="eager", fullgraph=True)
    assert_same(compiled(pixels(), token_ids(), boxes()), detector(pixels(), token_ids(), boxes()))


def test_building_from_a_config_is_reproducible() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_detector(tiny_config()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
