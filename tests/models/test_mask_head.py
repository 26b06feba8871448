"""Pixel decoder, instance masks and the semantic map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.models.mask_head import MaskHead
from conceptseg.models.prompts import PromptTokens
from tests.models.tiny import randomise

WIDTH, PAIRS = 8, 2


def head(stages: int = 3) -> MaskHead:
    module = MaskHead(WIDTH, heads=2, upsampling_stages=stages, group_norm_groups=4).eval()
    randomise(module)
    return module.requires_grad_(False)


def levels() -> list[Tensor]:
    return [
        torch.randn(PAIRS, WIDTH, side, side, generator=torch.Generator().manual_seed(side))
        for side in (12, 6, 3)
    ]


def inputs() -> tuple[list[Tensor], Tensor, PromptTokens]:
    generator = torch.Generator().manual_seed(5)
    prompt = PromptTokens(
        torch.randn(4, PAIRS, WIDTH, generator=generator),
        torch.tensor([[False] * 4, [False, False, True, True]]),
    )
    return levels(), torch.randn(9, PAIRS, WIDTH, generator=generator), prompt


def test_pixels_have_the_resolution_of_the_finest_level() -> None:
    assert head().pixels(*inputs()).shape == (PAIRS, WIDTH, 12, 12)


def test_the_fused_memory_takes_the_place_of_the_coarsest_level() -> None:
    module, (maps, memory, prompt) = head(), inputs()
    other = [*maps[:2], maps[2] + 5]
    assert torch.equal(module.pixels(maps, memory, prompt), module.pixels(other, memory, prompt))
    assert not torch.equal(module.pixels(maps, memory, prompt), module.pixels(maps, memory + 1, prompt))


def test_stages_run_from_coarse_to_fine_and_those_left_over_do_not_run() -> None:
    maps, memory, prompt = inputs()
    module = head()
    plain = module.pixels(maps, memory, prompt)
    for parameter in (*module.convs[2].parameters(), *module.norms[2].parameters()):
        parameter.add_(1.0)
    assert torch.equal(module.pixels(maps, memory, prompt), plain)

    tokens = prompt.tokens.transpose(0, 1)
    x = memory.transpose(0, 1)
    x = x + module.prompt_attention(
        module.prompt_norm(x), tokens, tokens, key_padding_mask=prompt.padding_mask
    )
    y = x.transpose(1, 2).reshape(PAIRS, WIDTH, 3, 3)
    for i, skip in enumerate((maps[1], maps[0])):
        y = F.relu(module.norms[i](module.convs[i](skip + y.repeat_interleave(2, 2).repeat_interleave(2, 3))))
    torch.testing.assert_close(plain, y, atol=1e-5, rtol=1e-5)


def test_a_padded_prompt_token_does_not_reach_the_pixels() -> None:
    module, (maps, memory, prompt) = head(), inputs()
    plain = module.pixels(maps, memory, prompt)
    prompt.tokens[2:, 1] = 70.0
    torch.testing.assert_close(module.pixels(maps, memory, prompt), plain)


def test_a_mask_is_the_dot_product_of_a_query_and_the_pixels() -> None:
    module, pixels = head(), torch.randn(PAIRS, WIDTH, 4, 5)
    hidden = torch.randn(3, PAIRS, WIDTH)
    masks = module.instance_logits(pixels, hidden)
    assert masks.shape == (PAIRS, 3, 4, 5)
    query, pixel = module.mask_embedding(hidden)[2, 1], module.instance_projection(pixels)[1, :, 3, 4]
    torch.testing.assert_close(masks[1, 2, 3, 4], query @ pixel, atol=1e-4, rtol=1e-4)


def test_masks_of_some_queries_alone_are_those_of_all_in_the_order_asked_for() -> None:
    made = head().query_masks(torch.randn(PAIRS, WIDTH, 4, 5), torch.randn(3, PAIRS, WIDTH))
    pairs, queries = torch.tensor([1, 0, 1, 1]), torch.tensor([2, 1, 0, 2])
    torch.testing.assert_close(made.matched(pairs, queries), made.all()[pairs, queries])
    assert made.matched(pairs[:0], queries[:0]).shape == (0, 4, 5)


def test_the_semantic_map_has_one_channel() -> None:
    assert head().semantic_logits(torch.randn(PAIRS, WIDTH, 4, 5)).shape == (PAIRS, 1, 4, 5)


def test_scaling_logits_by_a_power_of_two_changes_no_mask() -> None:
    module, hidden = head(), torch.randn(5, PAIRS, WIDTH, generator=torch.Generator().manual_seed(1))
    pixels = module.pixels(*inputs())
    before = module.instance_logits(pixels, hidden)
    module.scale_instance_logits(1 / 16)
    assert torch.equal(module.instance_logits(pixels, hidden) * 16, before)
