"""The fast form of each module gives what the plain one gives, and only where a network is merely asked."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conceptseg.models.cpu import attend, modules, parts
from conceptseg.models.cpu.modules import FAST, rotate_by_complex_product
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.layers.rope import axial_rope_table, rotate
from tests.models.test_decoder import PAIRS, SIZE, captured_calls, decoder, fusion
from tests.models.test_fusion_encoder import encoder, fuse, level
from tests.models.test_mask_head import WIDTH as MASK_WIDTH
from tests.models.test_mask_head import head
from tests.models.tiny import boxes, pixels, tiny_detector, token_ids
from tests.models.vision.test_vit import WIDTH, WINDOW, block


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FEWEST_NUMBERS", 1)
    monkeypatch.setattr(attend, "FEWEST_WEIGHTS", 1)


def fast(module: Any, attention: Any = "blocks") -> Any:
    """A copy of a module in its fast form."""
    copied = copy.deepcopy(module)
    fast_on_cpu(copied, attention)
    assert type(copied) is FAST.get(type(module), type(module))
    return copied


@pytest.mark.parametrize("window", [0, WINDOW])
def test_a_block_in_parts_gives_what_it_gives_at_once(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the edges, too, where a window is not full."""
    module, x = block(window), torch.randn(2, 7, 5, WIDTH)
    monkeypatch.setattr(modules, "PART", 2)
    with torch.no_grad():
        assert parts.in_parts(x)
        torch.testing.assert_close(fast(module)(x), module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pre_norm": False}, {"pool_prompt": "mean"}])
def test_fusion_goes_pair_by_pair_with_the_same_memory(options: dict[str, Any]) -> None:
    plain, two = encoder(**options), level(3, 4)
    quick = fast(plain)
    padding = torch.zeros(2, 3, 4, dtype=torch.bool)
    padding[1, :, 3] = True
    seen: list[int] = []
    quick.layers[1].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    given: list[dict[str, Any]] = [{"image_index": torch.tensor([1, 0])}, {"padding_masks": [padding]}, {}]
    for more in given:
        expected = fuse(plain, two, **more).memory
        torch.testing.assert_close(fuse(quick, two, **more).memory, expected, atol=1e-5, rtol=1e-5)
    assert seen == [1] * 6


@pytest.mark.parametrize("padded", [False, True])
def test_the_decoder_answers_pair_by_pair_with_the_same_answers(padded: bool) -> None:
    plain, asked = decoder(), fusion()
    quick = fast(plain)
    if padded:
        mask = torch.zeros(PAIRS, SIZE[0] * SIZE[1], dtype=torch.bool)
        mask[1, 3::4] = True
        asked = fusion(mask, torch.tensor([[[1.0, 1.0]], [[0.75, 1.0]]]))
    calls = captured_calls(quick.layers[0])
    with torch.no_grad():
        together, apart = plain(asked, SIZE), quick(asked, SIZE)
    assert [len(more["x"]) for _, more in calls] == [1] * PAIRS
    for field in dataclasses.fields(together):
        one, other = getattr(apart, field.name), getattr(together, field.name)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_decoder_in_training_answers_all_pairs_together() -> None:
    module = fast(decoder(one_to_many=True)).train()
    calls = captured_calls(module.layers[0])
    with torch.no_grad():
        assert module(fusion(), SIZE).one_to_many is not None
    assert [len(more["x"]) for _, more in calls] == [PAIRS]


def test_masks_in_half_precision_are_the_same_to_rounding() -> None:
    plain, maps = head(), torch.randn(PAIRS, MASK_WIDTH, 4, 5)
    hidden = torch.randn(3, PAIRS, MASK_WIDTH)
    expected = plain.instance_logits(maps, hidden)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        half = fast(plain).instance_logits(maps, hidden)
    assert half.shape == expected.shape and half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.03 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_complex_product_turns_as_six_real_ones_do(dtype: torch.dtype) -> None:
    cos, sin = axial_rope_table(3, 5, 16, 10000.0, 1.0, torch.device("cpu"))
    # As attention has it: queries, keys and values beside each other, heads after tokens.
    q, k, _ = torch.randn(2, 15, 3, 4, 16).to(dtype).permute(2, 0, 3, 1, 4).unbind(0)
    for x in (q, k):
        turned = rotate_by_complex_product(x, cos, sin)
        assert turned.dtype == dtype
        torch.testing.assert_close(turned, rotate(x, cos, sin), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attention", ["blocks", "fused"])
def test_a_network_answers_as_it_did_under_the_same_names(attention: str) -> None:
    plain = tiny_detector()
    quick = fast(plain, attention)
    assert list(quick.state_dict()) == list(plain.state_dict())
    assert not any(type(module) in FAST for module in quick.modules())
    with torch.inference_mode():
        one, other = (detector(pixels(), token_ids(), boxes()) for detector in (quick, plain))
    for name in ("class_logits", "boxes_cxcywh", "presence_logits", "mask_logits", "semantic_logits"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-4, rtol=1e-4)


def test_a_network_that_lies_elsewhere_stays_plain() -> None:
    with torch.device("meta"):
        module = decoder(random=False)
    fast_on_cpu(module)
    assert not any(type(part) in FAST.values() for part in module.modules())


def test_what_is_exported_or_trained_runs_as_the_plain_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: Any, **more: Any) -> Tensor:
        raise AssertionError("only where a network is merely asked")

    for name in ("by_parts", "rotate_by_complex_product"):
        monkeypatch.setattr(modules, name, forbidden)
    for name in ("attend_in_blocks", "attend_in_parts"):
        monkeypatch.setattr(attend, name, forbidden)
    trunk = fast(tiny_detector().vision_encoder).bfloat16()

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, x: Tensor) -> list[Tensor]:
            return self.trunk(x)

    x = pixels().bfloat16()
    trunk(x)[0].sum().backward()
    with torch.no_grad():
        torch.export.export(Maps(), (x,))
        with pytest.raises(AssertionError, match="merely asked"):
            trunk(x)
