"""What the decoder's layers see, and how boxes move through them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from conceptseg.models.boxes import inverse_sigmoid
from conceptseg.models.decoder import BoxRelativeBias, Decoder, DecoderOutput
from conceptseg.models.fusion_encoder import FusionOutput
from conceptseg.models.prompts import PromptTokens
from tests.models.tiny import randomise

WIDTH, QUERIES, PAIRS, SIZE = 16, 5, 2, (3, 4)


def decoder(seed: int = 0, random: bool = True, **options: Any) -> Decoder:
    arguments = {"layers": 3, "heads": 2, "mlp_width": 24, "queries": QUERIES, "dropout": 0.0, **options}
    module = Decoder(width=WIDTH, **arguments).eval()
    if random:
        randomise(module, seed)
    return module


def fusion(
    padding_mask: Tensor | None = None, valid_ratios: Tensor | None = None, seed: int = 1
) -> FusionOutput:
    generator = torch.Generator().manual_seed(seed)
    tokens = SIZE[0] * SIZE[1]
    return FusionOutput(
        memory=torch.randn(tokens, PAIRS, WIDTH, generator=generator),
        padding_mask=padding_mask,
        positions=torch.randn(tokens, 1, WIDTH, generator=generator),
        prompt=PromptTokens(
            torch.randn(3, PAIRS, WIDTH, generator=generator), torch.zeros(PAIRS, 3, dtype=torch.bool)
        ),
        level_start_index=torch.tensor([0]),
        spatial_shapes=torch.tensor([SIZE]),
        valid_ratios=torch.ones(PAIRS, 1, 2) if valid_ratios is None else valid_ratios,
    )


def captured_calls(module: torch.nn.Module) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of every later call."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    module.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    return calls


def captured_outputs(module: torch.nn.Module) -> list[Tensor]:
    results: list[Tensor] = []
    module.register_forward_hook(lambda *call: results.append(call[-1]))
    return results


def test_outputs_have_the_documented_shapes() -> None:
    output: DecoderOutput = decoder()(fusion(), SIZE)
    assert output.hidden.shape == (3, QUERIES, PAIRS, WIDTH)
    assert output.reference_boxes.shape == (3, QUERIES, PAIRS, 4)
    assert output.boxes_cxcywh.shape == (3, QUERIES, PAIRS, 4)
    assert output.presence_logits.shape == (3, PAIRS)
    assert output.presence_feature.shape == (1, PAIRS, WIDTH)


def test_the_presence_token_carries_no_position_and_no_image_bias() -> None:
    module = decoder(layers=1)
    layer = module.layers[0]
    attention = captured_calls(layer.self_attention)  # type: ignore[arg-type]
    image = captured_calls(layer.image_attention)  # type: ignore[arg-type]
    position = captured_outputs(module.reference_head)
    module(fusion(), SIZE)
    (query, _, value), _ = attention[0]
    assert torch.equal(query[:, 0], value[:, 0])
    torch.testing.assert_close(query[:, 1:] - value[:, 1:], position[0], atol=1e-5, rtol=1e-5)
    bias = image[0][1]["bias"]
    assert bias.shape == (PAIRS, 2, 1 + QUERIES, SIZE[0] * SIZE[1])
    assert not bias[:, :, 0].any() and bias[:, :, 1:].all()


def test_presence_and_queries_see_each_other_in_self_attention() -> None:
    plain, changed = decoder(layers=1), decoder(layers=1)
    with torch.no_grad():
        changed.query_embedding[0] *= -2
    a, b = plain(fusion(), SIZE), changed(fusion(), SIZE)
    assert (a.presence_logits - b.presence_logits).abs().max() > 1e-3
    with torch.no_grad():
        changed.query_embedding[0] /= -2
        changed.presence_token *= -2
    assert (a.hidden - changed(fusion(), SIZE).hidden).abs().max() > 1e-3


def test_where_the_boxes_lie_does_not_steer_what_presence_sees_of_the_image() -> None:
    # After one layer, the bias has reached the queries only.
    plain, changed = decoder(layers=1), decoder(layers=1)
    assert changed.box_bias is not None
    randomise(changed.box_bias, seed=9)
    a, b = plain(fusion(), SIZE), changed(fusion(), SIZE)
    assert (a.hidden - b.hidden).abs().max() > 1e-3
    torch.testing.assert_close(a.presence_logits, b.presence_logits)


def test_presence_logits_are_free_unless_a_limit_is_set() -> None:
    free, limited = decoder(), decoder(presence_logit_limit=10.0)
    for module in (free, limited):
        with torch.no_grad():
            module.presence_head.mlp.layers[-1].weight.mul_(100)  # type: ignore[union-attr, operator]
    a, b = free(fusion(), SIZE).presence_logits, limited(fusion(), SIZE).presence_logits
    assert a.abs().max() > 12
    assert torch.equal(b, a.clamp(-10, 10))


def test_the_depth_of_the_presence_head_is_an_option() -> None:
    assert len(decoder().presence_head.mlp.layers) == 3
    assert len(decoder(presence_layers=1).presence_head.mlp.layers) == 1


def test_each_layer_starts_from_the_boxes_of_the_one_before() -> None:
    module = decoder()
    output = module(fusion(), SIZE)
    start = module.reference_points.sigmoid()[:, None].expand(-1, PAIRS, -1)
    torch.testing.assert_close(output.reference_boxes[0], start)
    torch.testing.assert_close(output.reference_boxes[1:], output.boxes_cxcywh[:-1])
    moved = (module.box_head(output.hidden) + inverse_sigmoid(output.reference_boxes)).sigmoid()
    torch.testing.assert_close(output.boxes_cxcywh, moved)


def test_before_training_boxes_stay_where_they_start() -> None:
    output = decoder(random=False)(fusion(), SIZE)
    torch.testing.assert_close(
        output.boxes_cxcywh, output.reference_boxes, atol=2e-3, rtol=0
    )  # inverse_sigmoid clamps


def test_a_layer_learns_from_the_box_of_the_next_but_not_from_what_the_next_sees_of_it() -> None:
    module = decoder().train()
    deltas = captured_outputs(module.box_head)
    output = module(fusion(), SIZE)
    # Look forward twice: the second box also moves the first layer's offset, the third does not.
    assert torch.autograd.grad(output.boxes_cxcywh[1].sum(), deltas[0], retain_graph=True)[0].abs().max() > 0
    assert not torch.autograd.grad(output.boxes_cxcywh[2].sum(), deltas[0], retain_graph=True)[0].any()
    # Positions and the box bias of the next layer come from a detached box.
    seen = torch.autograd.grad(output.hidden[1].square().sum(), deltas[0], allow_unused=True)[0]
    assert seen is None or not seen.any()


def test_reference_points_learn_from_the_first_layers() -> None:
    module = decoder().train()
    module(fusion(), SIZE).boxes_cxcywh[0].sum().backward()
    assert module.reference_points.grad is not None and module.reference_points.grad.abs().max() > 0


def test_the_two_query_sets_of_training_do_not_see_each_other() -> None:
    plain, changed = decoder().train(), decoder().train()
    with torch.no_grad():
        changed.query_embedding[0] *= -2
    a, b = plain(fusion(), SIZE), changed(fusion(), SIZE)
    assert a.one_to_many is not None and b.one_to_many is not None
    # One-to-one queries suppress each other's duplicates, so one that changes reaches all.
    assert (a.hidden[:, 1:] - b.hidden[:, 1:]).abs().max() > 1e-3
    # One-to-many queries answer alone.
    torch.testing.assert_close(a.one_to_many.hidden[:, 1:], b.one_to_many.hidden[:, 1:], atol=1e-5, rtol=1e-5)
    assert (a.one_to_many.hidden[:, 0] - b.one_to_many.hidden[:, 0]).abs().max() > 1e-3


def test_the_second_query_set_does_not_change_the_first_or_presence() -> None:
    with_second, without = decoder().train(), decoder(one_to_many=False).train()
    a, b = with_second(fusion(), SIZE), without(fusion(), SIZE)
    assert b.one_to_many is None
    torch.testing.assert_close(a.hidden, b.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.boxes_cxcywh, b.boxes_cxcywh, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.presence_logits, b.presence_logits, atol=1e-5, rtol=1e-5)


def test_padded_image_tokens_are_not_seen_and_boxes_are_placed_on_the_padded_map() -> None:
    padding = torch.zeros(PAIRS, SIZE[0] * SIZE[1], dtype=torch.bool)
    padding[1, 8:] = True  # the last of three rows
    ratios = torch.tensor([[[1.0, 1.0]], [[1.0, 2 / 3]]])
    module = decoder(layers=1)
    encodings = captured_calls(module.reference_head)
    one = module(fusion(padding, ratios), SIZE)
    noisy = fusion(padding, ratios)
    noisy.memory[8:, 1] = 50.0
    two = module(noisy, SIZE)
    torch.testing.assert_close(one.hidden, two.hidden)
    torch.testing.assert_close(one.presence_logits, two.presence_logits)
    # The position encoding of a query: y, x, w, h of WIDTH / 2 channels each, y and h squeezed by padding.
    encoding, half = encodings[0][0][0], WIDTH // 2
    squeezed = (encoding[0] - encoding[1]).abs().amax(0).unflatten(0, (4, half)).amax(-1) > 1e-4
    assert squeezed.tolist() == [True, False, False, True]


def test_without_text_attention_the_decoder_reads_the_prompt_through_the_memory_only() -> None:
    module = decoder(text_attention=False)
    other = fusion()
    other.prompt.tokens = other.prompt.tokens + 1
    torch.testing.assert_close(module(fusion(), SIZE).hidden, module(other, SIZE).hidden)
    reads = decoder()
    assert (reads(fusion(), SIZE).hidden - reads(other, SIZE).hidden).abs().max() > 1e-3


def test_queries_without_a_box_have_no_bias() -> None:
    bias, boxes = BoxRelativeBias(WIDTH, heads=2), torch.rand(1, 3, 4)
    randomise(bias)
    more = bias(boxes, (2, 4), unbiased=1)
    assert more.shape == (1, 2, 4, 8) and more.is_contiguous() and not more[:, :, 0].any()
    assert torch.equal(more[:, :, 1:], bias(boxes, (2, 4)))


def test_the_box_bias_adds_a_row_and_a_column_term_in_row_major_order() -> None:
    bias = BoxRelativeBias(WIDTH, heads=2)
    randomise(bias)
    box = torch.tensor([[[0.5, 0.5, 0.25, 0.5]]])  # x 0.375 to 0.625, y 0.25 to 0.75
    with torch.no_grad():
        out = bias(box, (2, 4))  # (1, heads, 1, 8)
        # Tokens are measured at their left and top edge: columns at 0, 1/4, 2/4, 3/4; rows at 0, 1/2.
        x = torch.tensor([log8(0.5 - 0.375), log8(0.5 - 0.625)])
        y = torch.tensor([log8(0.5 - 0.25), log8(0.5 - 0.75)])
        expected = bias.columns(x) + bias.rows(y)
    torch.testing.assert_close(out[0, :, 0, 1 * 4 + 2], expected)


def log8(distance: float) -> float:
    """Signed log2(|8 d| + 1) / log2(8): an eighth of the image to the right is 1/3."""
    return math.copysign(math.log2(abs(8 * distance) + 1) / 3, distance)


def test_an_eighth_of_the_image_is_a_third_on_the_log_scale() -> None:
    assert log8(0.125) == pytest.approx(1 / 3) and log8(-0.875) == pytest.approx(-1.0)


def test_reference_boxes_can_start_on_a_grid_that_covers_the_image() -> None:
    module = decoder(queries=100, random=False)
    module.start_on_grid()
    boxes = module.reference_points.detach().sigmoid()
    assert len(boxes.unique(dim=0)) == 100
    centres = boxes[:, :2]
    for corner in ([0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9], [0.5, 0.5]):
        assert (centres - torch.tensor(corner)).norm(dim=-1).min() < 0.1
