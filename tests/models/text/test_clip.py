"""The text encoder."""

from __future__ import annotations

import torch

from conceptseg.models.text.clip import TextEncoder
from tests.models.tiny import randomise


def encoder() -> TextEncoder:
    module = TextEncoder(
        vocab_size=30, context_length=8, width=12, depth=2, heads=3, mlp_width=20, output_width=6
    ).eval()
    randomise(module)
    return module.requires_grad_(False)


def test_every_token_is_kept_and_zeros_are_padding() -> None:
    prompt = encoder()(torch.tensor([[1, 9, 2, 0], [1, 9, 4, 2]]))
    assert prompt.tokens.shape == (4, 2, 6)
    assert prompt.padding_mask.tolist() == [[False, False, False, True], [False] * 4]


def test_a_word_reads_those_before_it_only() -> None:
    module = encoder()
    a, b = module(torch.tensor([[1, 9, 4, 2]])).tokens, module(torch.tensor([[1, 9, 7, 2]])).tokens
    torch.testing.assert_close(a[:2], b[:2])
    assert (a[3] - b[3]).abs().max() > 1e-3


def test_the_order_of_words_matters() -> None:
    module = encoder()
    a, b = module(torch.tensor([[1, 9, 4, 2]])).tokens, module(torch.tensor([[1, 4, 9, 2]])).tokens
    assert (a[3] - b[3]).abs().max() > 1e-3


def test_longer_padding_changes_nothing() -> None:
    module = encoder()
    short, long = torch.tensor([[1, 9, 2]]), torch.tensor([[1, 9, 2, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(module(long).tokens[:3], module(short).tokens)
