"""CLIP-style text encoder: a causal transformer whose every token is kept.

token ids (B, T) -> tokens (T, B, D). Source: Radford et al. 2021, arXiv:2103.00020; sizes of SAM 3's tower
are config.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conceptseg.models.prompts import PromptTokens
from conceptseg.models.text.block import TextBlock


class TextEncoder(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        output_width: int,
        embedding_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(TextBlock(width, heads, mlp_width, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, output_width)
        nn.init.normal_(self.token_embedding.weight, std=embedding_std)
        nn.init.normal_(self.position_embedding, std=embedding_std / 2)

    def forward(self, token_ids: Tensor) -> PromptTokens:
        """Encode phrases.

        Args:
            token_ids: (B, T) long, T at most the context length; 0 = padding.

        Returns:
            tokens (T, B, D) and their padding mask (B, T).
        """
        x = self.token_embedding(token_ids) + self.position_embedding[: token_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        # Padding needs no mask inside: it stands at the end, and attention only looks back.
        x = self.projection(self.norm(x))
        return PromptTokens(tokens=x.transpose(0, 1), padding_mask=token_ids == 0)
