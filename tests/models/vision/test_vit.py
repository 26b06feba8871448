"""The trunk: windows, tiled positions, rotary coordinates."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.errors import ConfigError
from conceptseg.models.build import build_vision_encoder
from conceptseg.models.config import ViTConfig
from conceptseg.models.layers.rope import axial_rope_table, rotate
from conceptseg.models.vision.vit import Block, VisionTransformer
from tests.models.tiny import TINY, randomise

WIDTH, HEADS, WINDOW = 16, 2, 3


def block(window: int) -> Block:
    module = Block(
        width=WIDTH,
        heads=HEADS,
        mlp_width=20,
        window=window,
        rope_window=WINDOW,
        rope_theta=10000.0,
        drop_path=0.0,
        norm_eps=1e-5,
    ).eval()
    randomise(module)
    return module.requires_grad_(False)


def trunk() -> VisionTransformer:
    config = TINY.vision
    assert isinstance(config, ViTConfig)
    arguments = {name: value for name, value in vars(config).items() if name != "kind"}
    module = VisionTransformer(**arguments).eval()
    randomise(module)
    return module.requires_grad_(False)


def attend(module: Block, tokens: Tensor, height: int, width: int) -> Tensor:
    """(height * width, C): plain attention over one grid with rotary positions, written out."""
    attention = module.attention
    q, k, v = attention.qkv(tokens).reshape(height * width, 3, HEADS, -1).permute(1, 2, 0, 3)
    cos, sin = axial_rope_table(height, width, WIDTH // HEADS, 10000.0, WINDOW / width, tokens.device)
    weights = (rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(
        -1
    )
    return attention.proj((weights @ v).transpose(0, 1).flatten(1))


def test_windows_that_do_not_fit_are_filled_with_zeros_that_are_attended_to() -> None:
    module, x = block(WINDOW), torch.randn(1, 7, 5, WIDTH)
    padded = torch.zeros(9, 6, WIDTH)
    padded[:7, :5] = x[0]
    expected = torch.empty_like(padded)
    for row in range(0, 9, WINDOW):
        for column in range(0, 6, WINDOW):
            window = padded[row : row + WINDOW, column : column + WINDOW]
            answer = attend(module, window.reshape(-1, WIDTH), WINDOW, WINDOW)
            expected[row : row + WINDOW, column : column + WINDOW] = answer.reshape(WINDOW, WINDOW, WIDTH)
    torch.testing.assert_close(module._attend(x)[0], expected[:7, :5], atol=1e-5, rtol=1e-5)


def test_a_windowed_block_sees_its_window_and_a_global_block_sees_everything() -> None:
    x = torch.randn(1, 6, 6, WIDTH)
    changed = x.clone()
    changed[:, 4, 4] *= -1.0
    near = (block(WINDOW)(x) - block(WINDOW)(changed)).abs().amax(-1)[0] > 0
    assert near[3:, 3:].all() and not near[:3].any() and not near[:, :3].any()
    assert ((block(0)(x) - block(0)(changed)).abs().amax(-1) > 0).all()


def test_a_global_block_squeezes_its_grid_into_the_coordinates_of_one_window() -> None:
    module, x = block(0), torch.randn(1, 6, 6, WIDTH)
    expected = attend(module, x.reshape(-1, WIDTH), 6, 6)
    torch.testing.assert_close(module._attend(x).reshape(-1, WIDTH), expected, atol=1e-5, rtol=1e-5)


def test_learned_positions_are_tiled_and_cropped_not_stretched() -> None:
    module = trunk()
    tiled = module._tiled_positions(7, 5)
    assert tiled.shape == (1, 7, 5, 32)
    for row in range(7):
        for column in range(5):
            assert torch.equal(tiled[0, row, column], module.position_embedding[0, row % 3, column % 3])


def test_the_trunk_gives_one_map_at_the_patch_stride() -> None:
    maps = trunk()(torch.randn(2, 3, 28, 20))
    assert [tuple(m.shape) for m in maps] == [(2, 32, 7, 5)]


def test_stochastic_depth_grows_linearly_to_the_last_block() -> None:
    module = VisionTransformer(4, 16, 5, 2, 20, 3, (4,), 3, 10000.0, drop_path=0.1, norm_eps=1e-5)
    rates = [b.drop_path.rate for b in module.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


def test_a_head_width_that_rotary_positions_cannot_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        ViTConfig(width=12, heads=2)


def test_a_rounded_feed_forward_is_that_of_the_official_code_since_sam_3_1() -> None:
    config = dataclasses.replace(TINY.vision, rounded_mlp=True)
    exact, rounded = trunk(), build_vision_encoder(config).eval()
    rounded.load_state_dict(exact.state_dict())  # the same keys
    x = torch.randn(2, 5, 5, config.width)
    first, _, second = exact.blocks[0].mlp
    product = F.linear(x.bfloat16(), first.weight.bfloat16(), first.bias.bfloat16())
    expected = second(F.gelu(product.float(), approximate="tanh").bfloat16().float())
    with torch.no_grad():
        assert torch.equal(rounded.blocks[0].mlp(x), expected)
        assert not torch.equal(exact.blocks[0].mlp(x), expected)
    # With gradients the official code computes exactly, and so does this.
    assert torch.equal(rounded.blocks[0].mlp(x), exact.blocks[0].mlp(x))
