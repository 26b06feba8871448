"""One layer of a text transformer, norms first: CLIP's, and MobileCLIP's, which only leaves out the mask."""

from __future__ import annotations

from torch import Tensor, nn

from conceptseg.models.layers.attention import Attention


class TextBlock(nn.Module):
    """Attention and feed-forward.

    Args:
        width: channels.
        heads: of the attention.
        mlp_width: hidden channels of the feed-forward.
        causal: each token reads those before it; else every token reads every other, padding too.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        n = self.norm1(x)
        x = x + self.attention(n, n, n, causal=self.causal)
        return x + self.mlp(self.norm2(x))
