"""How well a query answers the prompt: the dot product of the two."""

from __future__ import annotations

import math

from torch import Tensor, nn

from conceptseg.models.layers.mlp import MLP
from conceptseg.models.prompts import PromptTokens


class DotProductScoring(nn.Module):
    def __init__(
        self, width: int, mlp_width: int, logit_limit: float | None = 12.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.prompt_mlp = MLP(width, mlp_width, width, 2)
        self.prompt_norm = nn.LayerNorm(width)
        self.prompt_projection = nn.Linear(width, width)
        self.query_projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = 1 / math.sqrt(width)
        self.logit_limit = logit_limit

    def forward(self, hidden: Tensor, prompt: PromptTokens) -> Tensor:
        """Score queries.

        Args:
            hidden: (L, N, B, D), normalised decoder states.
            prompt: (S, B, D): words and exemplars together.

        Returns:
            (L, N, B) class logits, before presence.
        """
        p = self.prompt_norm(prompt.tokens + self.dropout(self.prompt_mlp(prompt.tokens)))
        pooled = PromptTokens(p, prompt.padding_mask).pooled()  # (B, D)
        logits = (self.query_projection(hidden) * self.prompt_projection(pooled)).sum(-1) * self.scale
        return logits if self.logit_limit is None else logits.clamp(-self.logit_limit, self.logit_limit)
