"""The trunk with many tokens in each product gives what the plain one gives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conceptseg.models.cpu import modules, packing, parts, trunk
from conceptseg.models.cpu.packing import PackedLinear
from conceptseg.models.cpu.rounding import roundable
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.vision.vit import Block, VisionTransformer
from conceptseg.unstable import can_pack
from tests.models.tiny import randomise

pytestmark = pytest.mark.skipif(not can_pack(), reason="this processor does not multiply in bfloat16")

PATCH, WINDOW = 4, 3
SIZE_HW = (2 * WINDOW * PATCH, 3 * WINDOW * PATCH)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(parts, "FEWEST_NUMBERS", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of each time that the trunk goes in rows."""
    seen: list[int] = []

    def note(blocks: list[Block], *rest: Any) -> Tensor:
        seen.append(len(blocks))
        return trunk.run_in_rows(blocks, *rest)

    monkeypatch.setattr(modules, "run_in_rows", note)
    return seen


def plain(**options: Any) -> VisionTransformer:
    arguments: dict[str, Any] = {
        "patch_size": PATCH,
        "width": 64,
        "depth": 4,
        "heads": 4,
        "mlp_width": 96,
        "window": WINDOW,
        "global_blocks": (1, 3),
        "position_grid": WINDOW,
        "rope_theta": 10000.0,
        "drop_path": 0.1,
        "norm_eps": 1e-5,
    }
    module = VisionTransformer(**(arguments | options)).eval()
    randomise(module)
    return module.requires_grad_(False)


def rounded(module: VisionTransformer, rows: int) -> VisionTransformer:
    """A copy as a model loaded in bfloat16 has it."""
    copied = copy.deepcopy(module)
    names = roundable(copied)
    for name, parameter in copied.named_parameters():
        parameter.data = parameter.data.bfloat16() if name in names else parameter.data
    fast_on_cpu(copied, rows=rows)
    assert isinstance(copied.blocks[0].mlp[0], PackedLinear)
    return copied


@torch.inference_mode()
def ask(module: VisionTransformer, pixels: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return module(pixels)[0]


@pytest.mark.parametrize("piece", [1, 4, 96])
@pytest.mark.parametrize("rows", [1, 9, 20, 1000])
def test_answers_are_as_near_to_float32_as_block_by_block(
    rows: int, piece: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunk, "PIECE", piece)
    module, pixels = plain(), torch.randn(2, 3, *SIZE_HW)
    exact = module(pixels)[0]
    in_rows, by_block = (ask(rounded(module, count), pixels) for count in (rows, 0))
    assert calls == [4] and in_rows.shape == exact.shape

    def error(answer: Tensor) -> float:
        return float((answer - exact).norm() / exact.norm())

    assert error(in_rows) < max(1.1 * error(by_block), 1e-3)
    torch.testing.assert_close(in_rows, by_block, atol=0.03 * float(exact.abs().max()), rtol=0)


def test_the_order_of_windows_is_undone_and_what_was_given_stays(calls: list[int]) -> None:
    module = rounded(plain(), 18)
    x = torch.randn(1, 2 * WINDOW, 3 * WINDOW, 64)
    given = x.clone()
    with torch.no_grad():
        together = module.run_blocks(x)
        module.rows = 0
        apart = module.run_blocks(x)
    assert torch.equal(x, given) and calls == [4]
    torch.testing.assert_close(together, apart, atol=0.03 * float(apart.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("options", "size_hw"),
    [
        ({}, (SIZE_HW[0] + PATCH, SIZE_HW[1])),  # a window that is not full
        ({"rounded_mlp": True}, SIZE_HW),
        ({"global_blocks": (0, 1, 2, 3)}, SIZE_HW),  # no windows at all
    ],
)
def test_another_trunk_goes_block_by_block(
    options: dict[str, Any], size_hw: tuple[int, int], calls: list[int]
) -> None:
    module, pixels = plain(**options), torch.randn(1, 3, *size_hw)
    assert torch.equal(ask(rounded(module, 18), pixels), ask(rounded(module, 0), pixels))
    assert not calls


def test_what_follows_a_product_is_computed_before_it_is_rounded() -> None:
    plain = nn.Linear(40, 56).to(torch.bfloat16)
    packed, x = PackedLinear(plain.weight, plain.bias), torch.randn(3, 5, 40).bfloat16()
    exact = plain.double()(x.double())
    with torch.inference_mode():
        for then, function in (("relu", nn.functional.relu), ("gelu", nn.functional.gelu)):
            torch.testing.assert_close(packed(x, then=then), function(exact).bfloat16(), atol=1e-3, rtol=8e-3)
