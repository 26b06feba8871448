"""Attention against torch's own module, whose parameters it shares."""

from __future__ import annotations

import torch

from conceptseg.models.layers.attention import Attention
from tests.models.tiny import randomise

WIDTH, HEADS = 12, 3


def pair() -> tuple[Attention, torch.nn.MultiheadAttention]:
    ours, theirs = Attention(WIDTH, HEADS), torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    return ours.eval(), theirs.eval()


def test_equals_torch_whichever_inputs_are_shared() -> None:
    ours, theirs = pair()
    a, b, c = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    for inputs in ((a, a, a), (a, a, b), (a, b, b), (a, b, c)):
        torch.testing.assert_close(ours(*inputs), theirs(*inputs)[0], atol=1e-5, rtol=1e-5)


def test_padding_and_bias_work_together() -> None:
    ours, theirs = pair()
    query, memory = torch.randn(2, 4, WIDTH), torch.randn(2, 6, WIDTH)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[0, 4:] = True
    bias = torch.randn(2, HEADS, 4, 6)
    merged = bias.masked_fill(padding[:, None, None], float("-inf")).flatten(0, 1)
    expected = theirs(query, memory, memory, attn_mask=merged)[0]
    torch.testing.assert_close(ours(query, memory, memory, padding, bias), expected, atol=1e-5, rtol=1e-5)


def test_causal_attention_looks_back_only() -> None:
    ours, _ = pair()
    x = torch.randn(1, 5, WIDTH)
    changed = x.clone()
    changed[:, 3:] = 9.0
    torch.testing.assert_close(
        ours(x, x, x, causal=True)[:, :3], ours(changed, changed, changed, causal=True)[:, :3]
    )
