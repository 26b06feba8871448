"""Multi-head attention, with fused query, key and value projections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention from one sequence into another (or into itself), batch first.

    The parameters are those of `torch.nn.MultiheadAttention`: query, key and value projections stacked in one
    matrix.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Read `value` where `key` answers `query`.

        Args:
            query: (B, N, D).
            key: (B, S, D).
            value: (B, S, D).
            key_padding_mask: (B, S), True = padding, not attended to.
            bias: (B, heads, N, S), added to the attention logits.
            causal: position n attends to positions up to n.

        Returns:
            (B, N, D).
        """
        q, k, v = (self._split_heads(x) for x in self._project(query, key, value))  # (B, heads, ., D / heads)
        allowed: Tensor | None = bias
        if key_padding_mask is not None:
            keep = ~key_padding_mask[:, None, None, :]  # (B, 1, 1, S)
            allowed = keep if bias is None else bias.masked_fill(~keep, float("-inf"))
        if allowed is not None and allowed.dtype != torch.bool:
            allowed = allowed.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        read = self.attend(q, k, v, allowed, dropout, causal)  # (B, heads, N, D / heads)
        return self.out_proj(read.transpose(1, 2).flatten(2))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool
    ) -> Tensor:
        """Scaled dot-product attention; `mask` is True where attended to, or numbers to add to the logits."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One matrix product for inputs that are the same tensor, instead of two or three."""
        w, b = self.in_proj_weight, self.in_proj_bias
        width = w.shape[1]
        if query is key and key is value:
            q, k, v = F.linear(query, w, b).chunk(3, dim=-1)
        elif query is key:
            q, k = F.linear(query, w[: 2 * width], b[: 2 * width]).chunk(2, dim=-1)
            v = F.linear(value, w[2 * width :], b[2 * width :])
        elif key is value:
            q = F.linear(query, w[:width], b[:width])
            k, v = F.linear(key, w[width:], b[width:]).chunk(2, dim=-1)
        else:
            q = F.linear(query, w[:width], b[:width])
            k = F.linear(key, w[width : 2 * width], b[width : 2 * width])
            v = F.linear(value, w[2 * width :], b[2 * width :])
        return q, k, v

    def _split_heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)
