"""Is the concept in the image at all? One number per (image, prompt) pair, multiplied into every score."""

from __future__ import annotations

from torch import Tensor, nn

from conceptseg.models.layers.mlp import MLP


class PresenceHead(nn.Module):
    """Reads the presence token of a decoder layer."""

    def __init__(self, width: int, layers: int, logit_limit: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = MLP(width, width, 1, layers)
        self.logit_limit = logit_limit

    def forward(self, presence_token: Tensor) -> Tensor:
        """(B, D) -> (B,) logits.

        The official code writes a clamp to plus or minus 10 and discards its result, so by default there is
        none.
        """
        logits = self.mlp(self.norm(presence_token)).squeeze(-1)
        return logits if self.logit_limit is None else logits.clamp(-self.logit_limit, self.logit_limit)
