"""The end that the encoders share: box tokens and one learned closing token read each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import FeedForward
from conceptseg.models.prompts import PromptTokens


class Closing(nn.Module):
    """Appends the closing token, lets all tokens of a prompt read each other, and normalises them.

    The closing token tells the detector that the examples end here; it is all there is when there are none.
    """

    def __init__(self, width: int, layers: int, heads: int, mlp_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.summary_token = nn.Parameter(torch.empty(1, width))
        self.input_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(width, heads, mlp_width, dropout) for _ in range(layers)
        )
        self.output_norm = nn.LayerNorm(width)
        nn.init.normal_(self.summary_token, std=0.02)

    def forward(self, boxes: Tensor, padding: Tensor) -> PromptTokens:
        """(B, M, D) and (B, M), True = padding -> tokens (M + 1, B, D)."""
        pairs = boxes.shape[0]
        closing = self.summary_token.to(boxes.dtype).expand(pairs, 1, -1)
        x = self.input_norm(torch.cat((boxes, closing), dim=1))  # (B, M + 1, D)
        padding = torch.cat((padding, padding.new_zeros(pairs, 1)), dim=1)  # (B, M + 1)
        for layer in self.layers:
            x = layer(x, padding)
        return PromptTokens(self.output_norm(x).transpose(0, 1), padding)


class SelfAttentionLayer(nn.Module):
    """Self-attention and feed-forward; norms come first."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, mlp_width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(B, S, D) and (B, S), True = padding -> (B, S, D)."""
        n = self.norm1(x)
        x = x + self.dropout(self.attention(n, n, n, key_padding_mask=padding))
        return x + self.dropout(self.feed_forward(self.norm2(x)))
