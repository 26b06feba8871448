"""MobileCLIP's text encoder, as SAM 3's students use it: every token reads every other, padding too.

token ids (B, T) -> tokens (T, B, D). Nothing is masked, neither what comes later nor padding, so the length
that phrases are padded to is part of the answer: T is always the context length. The smallest encoder (S0)
has one convolutional block before its transformer layers and one after them. Source: Vasu et al. 2024,
arXiv:2311.17049; RepMixer is from Vasu et al. 2023, arXiv:2303.14189.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.errors import ShapeError
from conceptseg.models.prompts import PromptTokens
from conceptseg.models.text.block import TextBlock

KERNEL = 11  # tokens that the convolutions see at once, in every released encoder


class MobileClipText(nn.Module):
    """Phrases -> prompt tokens.

    Args:
        vocab_size: rows of the token table.
        context_length: T.
        positions: rows of the position table, of which the first T are used; None: T.
        width: channels inside.
        depth: transformer layers.
        heads: of each of them.
        mlp_width: hidden channels of all feed-forwards.
        rep_mixer: one more block, convolutional, before and after the transformer layers.
        output_width: D.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        positions: int | None,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        rep_mixer: bool,
        output_width: int,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        rows = context_length if positions is None else positions
        self.position_embedding = nn.Parameter(torch.empty(rows, width))
        blocks: list[nn.Module] = [TextBlock(width, heads, mlp_width, causal=False) for _ in range(depth)]
        if rep_mixer:
            blocks = [RepMixerBlock(width, mlp_width), *blocks, RepMixerBlock(width, mlp_width)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, output_width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)

    def forward(self, token_ids: Tensor) -> PromptTokens:
        """Encode phrases.

        Args:
            token_ids: (B, T) long, T the context length; 0 = padding.

        Returns:
            tokens (T, B, D) and their padding mask (B, T).

        Raises:
            ShapeError: T is another length, which would silently give other tokens.
        """
        if token_ids.shape[1] != self.context_length:
            raise ShapeError(
                f"token_ids has {token_ids.shape[1]} columns; this text encoder reads padding too, so "
                f"phrases must be padded to its context length, {self.context_length}"
            )
        x = self.token_embedding(token_ids) + self.position_embedding[: self.context_length]  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        x = self.projection(self.norm(x))
        return PromptTokens(tokens=x.transpose(0, 1), padding_mask=token_ids == 0)


class RepMixerBlock(nn.Module):
    """Convolutions along the phrase in place of attention; both branches start almost switched off."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.mixer = RepMixer(width)
        self.feed_forward = ConvFeedForward(width, mlp_width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-5))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        x = x.transpose(1, 2)[:, :, None]  # (B, C, 1, T)
        x = self.mixer(x)
        x = x + self.scale * self.feed_forward(x)
        return x[:, :, 0].transpose(1, 2)


class RepMixer(nn.Module):
    """Each channel mixes neighbouring tokens; the branches could be folded into one convolution, but are not.

    The last norm is subtracted so that the branch starts at nothing but what the convolution adds.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = depthwise(width)
        self.conv_norm = nn.BatchNorm2d(width)
        self.skip_norm = nn.BatchNorm2d(width)
        self.reference_norm = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-5))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 1, T)
        mixed = self.skip_norm(x) + self.conv_norm(self.conv(x))
        return x + self.scale * (mixed - self.reference_norm(x))


class ConvFeedForward(nn.Module):
    """A feed-forward that looks at neighbouring tokens first."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.conv = depthwise(width)
        self.norm = nn.BatchNorm2d(width)
        self.linear1 = nn.Conv2d(width, mlp_width, 1)
        self.linear2 = nn.Conv2d(mlp_width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 1, T)
        return self.linear2(F.gelu(self.linear1(self.norm(self.conv(x)))))


def depthwise(width: int) -> nn.Conv2d:
    """Every channel apart, along the phrase."""
    return nn.Conv2d(width, width, (1, KERNEL), padding=(0, KERNEL // 2), groups=width, bias=False)
