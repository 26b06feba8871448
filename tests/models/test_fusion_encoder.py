"""The fusion encoder and its options, some by hand: without layers, memory is what goes in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from conceptseg.errors import ConfigError
from conceptseg.models.build import build_detector
from conceptseg.models.fusion_encoder import FusionEncoder, FusionLayer, FusionOutput
from conceptseg.models.prompts import PromptTokens
from tests.models.tiny import randomise, tiny_config

WIDTH = 8


def encoder(layers: int = 2, **options: Any) -> FusionEncoder:
    fusion = FusionEncoder(width=WIDTH, layers=layers, heads=2, mlp_width=12, **options).eval()
    randomise(fusion)
    return fusion


def level(height: int, width: int, pairs: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A feature map and its positions."""
    generator = torch.Generator().manual_seed(seed)
    shape = (pairs, WIDTH, height, width)
    return torch.randn(shape, generator=generator), torch.randn(shape[1:], generator=generator)


def prompt() -> PromptTokens:
    """Three tokens, of which the second pair uses two."""
    tokens = torch.randn(3, 2, WIDTH, generator=torch.Generator().manual_seed(3))
    return PromptTokens(tokens, torch.tensor([[False, False, False], [False, False, True]]))


def fuse(fusion: FusionEncoder, *maps: tuple[Tensor, Tensor], **more: Any) -> FusionOutput:
    with torch.no_grad():
        return fusion([m for m, _ in maps], [p for _, p in maps], prompt(), **more)


def test_levels_are_laid_one_after_the_other_row_by_row() -> None:
    fine, coarse = level(3, 4), level(2, 2, seed=1)
    output = fuse(encoder(layers=0, levels=2), fine, coarse)
    assert output.memory.shape == (16, 2, WIDTH)
    torch.testing.assert_close(output.memory[1 * 4 + 2], fine[0][:, :, 1, 2])
    torch.testing.assert_close(output.memory[12 + 1 * 2 + 0], coarse[0][:, :, 1, 0])
    assert output.level_start_index.tolist() == [0, 12]
    assert output.spatial_shapes.tolist() == [[3, 4], [2, 2]]


def test_each_level_has_its_own_embedding_in_the_positions() -> None:
    fusion = encoder(layers=0, levels=2)
    assert fusion.level_embedding is not None
    same = level(2, 2)
    positions = fuse(fusion, same, same).positions
    expected = fusion.level_embedding[1] - fusion.level_embedding[0]
    torch.testing.assert_close(positions[4:, 0] - positions[:4, 0], expected.expand(4, -1))


def test_one_level_has_no_embedding_and_plain_positions() -> None:
    fusion, only = encoder(layers=0), level(2, 3)
    assert fusion.level_embedding is None
    torch.testing.assert_close(fuse(fusion, only).positions[:, 0], only[1].flatten(1).t())


def test_the_prompt_is_passed_through_unchanged() -> None:
    output = fuse(encoder(), level(2, 2))
    assert torch.equal(output.prompt.tokens, prompt().tokens)
    assert torch.equal(output.prompt.padding_mask, prompt().padding_mask)


@pytest.mark.parametrize(("pool", "counted"), [("mean", (3, 3)), ("masked_mean", (3, 2))])
def test_the_pooled_prompt_is_added_to_every_image_token(pool: str, counted: tuple[int, int]) -> None:
    fusion = encoder(layers=0, pool_prompt=pool)
    assert fusion.pooling_projection is not None
    with torch.no_grad():
        fusion.pooling_projection.weight.copy_(2 * torch.eye(WIDTH))
        fusion.pooling_projection.bias.fill_(0.5)
    only = level(2, 2)
    added = fuse(fusion, only).memory - only[0].flatten(2).permute(2, 0, 1)  # (HW, B, D)
    for pair, count in enumerate(counted):
        mean = prompt().tokens[:count, pair].sum(0) / count
        torch.testing.assert_close(added[:, pair], (2 * mean + 0.5).expand(4, -1), atol=1e-5, rtol=1e-5)


def test_masked_mean_of_a_prompt_that_is_all_padding_is_zero_not_nan() -> None:
    fusion, only = encoder(layers=0, pool_prompt="masked_mean"), level(2, 2)
    assert fusion.pooling_projection is not None
    nothing = PromptTokens(prompt().tokens, torch.ones(2, 3, dtype=torch.bool))
    with torch.no_grad():
        memory = fusion([only[0]], [only[1]], nothing).memory
    expected = only[0].flatten(2).permute(2, 0, 1) + fusion.pooling_projection.bias
    torch.testing.assert_close(memory, expected)


def test_post_norm_ends_in_a_norm_and_pre_norm_does_not() -> None:
    only = level(3, 3)
    silent = {}
    for pre_norm in (True, False):
        fusion = encoder(pre_norm=pre_norm)
        with torch.no_grad():
            for name, parameter in fusion.named_parameters():
                if "norm" in name:
                    parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        silent[pre_norm] = fuse(fusion, only).memory
    torch.testing.assert_close(silent[False].mean(-1), torch.zeros(9, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(silent[False].std(-1, unbiased=False), torch.ones(9, 2), atol=1e-3, rtol=0)
    assert silent[True].std(-1).max() > 1.2


def test_layers_that_add_nothing_leave_the_image_alone_in_pre_norm_and_normalise_it_in_post_norm() -> None:
    only = level(3, 3)
    raw = only[0].flatten(2).permute(2, 0, 1)
    for pre_norm in (True, False):
        fusion = encoder(layers=1, pre_norm=pre_norm)
        with torch.no_grad():
            for name, parameter in fusion.named_parameters():
                if "out_proj" in name or "linear2" in name:
                    parameter.zero_()
        layer = fusion.layers[0]
        expected = raw if pre_norm else layer.norm3(layer.norm2(layer.norm1(raw)))  # type: ignore[operator]
        torch.testing.assert_close(fuse(fusion, only).memory, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_padded_parts_of_an_image_do_not_change_the_memory_of_the_rest(pre_norm: bool) -> None:
    fusion, (features, positions) = encoder(pre_norm=pre_norm), level(3, 4)
    padding = torch.zeros(2, 3, 4, dtype=torch.bool)
    padding[1, 2:] = True  # the second image fills 2 of 3 rows
    padding[1, :, 3:] = True  # and 3 of 4 columns
    other = features.clone()
    other[1, :, 2:], other[1, :, :, 3:] = 9.0, -9.0
    one = fuse(fusion, (features, positions), padding_masks=[padding])
    two = fuse(fusion, (other, positions), padding_masks=[padding])
    valid = ~padding.flatten(1).t()  # (HW, B)
    torch.testing.assert_close(one.memory[valid], two.memory[valid])
    assert one.padding_mask is not None and torch.equal(one.padding_mask, padding.flatten(1))
    # Width first, then height.
    torch.testing.assert_close(one.valid_ratios, torch.tensor([[[1.0, 1.0]], [[3 / 4, 2 / 3]]]))


def test_an_image_padded_at_the_right_and_bottom_gives_the_memory_of_the_image_without() -> None:
    fusion, (features, positions) = encoder(), level(3, 4, pairs=1)
    padding = torch.ones(1, 3, 4, dtype=torch.bool)
    padding[:, :2, :3] = False
    alone = PromptTokens(prompt().tokens[:, :1], prompt().padding_mask[:1])
    with torch.no_grad():
        padded = fusion([features], [positions], alone, padding_masks=[padding]).memory
        cropped = fusion([features[:, :, :2, :3]], [positions[:, :2, :3]], alone).memory
    torch.testing.assert_close(padded[~padding.flatten()], cropped, atol=1e-5, rtol=1e-5)


def test_padded_prompt_tokens_do_not_change_memory() -> None:
    fusion, (features, positions) = encoder(), level(2, 2)
    changed = prompt()
    changed.tokens[2, 1] = 100.0  # the padded token of the second pair
    with torch.no_grad():
        plain = fusion([features], [positions], prompt()).memory
        noisy = fusion([features], [positions], changed).memory
    torch.testing.assert_close(noisy, plain)


def test_prompt_positions_steer_where_the_image_looks_not_what_it_reads() -> None:
    fusion, only = encoder(), level(2, 2)
    plain = fuse(fusion, only).memory
    torch.testing.assert_close(fuse(fusion, only, prompt_positions=torch.zeros(3, 2, WIDTH)).memory, plain)
    steered = fuse(fusion, only, prompt_positions=prompt().tokens.flip(0)).memory
    assert (steered - plain).abs().max() > 0.01
    # With a single token there is nowhere else to look.
    one = PromptTokens(prompt().tokens[:1], torch.zeros(2, 1, dtype=torch.bool))
    with torch.no_grad():
        memory = fusion([only[0]], [only[1]], one).memory
        moved = fusion([only[0]], [only[1]], one, prompt_positions=prompt().tokens[1:2]).memory
    torch.testing.assert_close(moved, memory, atol=1e-5, rtol=1e-5)


def test_the_box_bias_refuses_several_levels() -> None:
    with pytest.raises(ConfigError, match="box_bias needs fusion.levels = 1"):
        build_detector(tiny_config(fusion={"levels": 2}))


def test_pairs_of_one_image_share_the_first_self_attention_and_change_nothing() -> None:
    fusion = encoder()
    two = level(3, 4)
    seen: list[int] = []
    first = fusion.layers[0]
    assert isinstance(first, FusionLayer)
    first.self_attention.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    for index in (torch.tensor([1, 0]), torch.tensor([0, 0])):
        shared = fuse(fusion, two, image_index=index)
        apart = fuse(fusion, (two[0][index], two[1]))
        torch.testing.assert_close(shared.memory, apart.memory)
    one = fuse(fusion, (two[0][:1], two[1]), image_index=torch.tensor([0, 0]))
    torch.testing.assert_close(one.memory, apart.memory)
    assert seen == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("options", [{"pre_norm": False}, {"pool_prompt": "mean"}, {"layers": 0}])
def test_an_image_index_means_the_same_for_every_option(options: dict[str, Any]) -> None:
    fusion, two, index = encoder(**options), level(2, 2), torch.tensor([1, 0])
    shared = fuse(fusion, two, image_index=index)
    torch.testing.assert_close(shared.memory, fuse(fusion, (two[0][index], two[1])).memory)
