"""What the network is asked: boxes and points as tensors, and the prompt tokens made of them and of words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class GeometricPrompt:
    """Boxes and points on the image, 0..1, each "like this" (1) or "not like this" (0); any may be None."""

    boxes_cxcywh: Tensor | None = None  # (B, M, 4)
    box_labels: Tensor | None = None  # (B, M) long
    box_padding: Tensor | None = None  # (B, M) bool, True = padding; None: all are real
    points_xy: Tensor | None = None  # (B, P, 2)
    point_labels: Tensor | None = None  # (B, P) long
    point_padding: Tensor | None = None  # (B, P) bool, True = padding; None: all are real


@dataclass
class PromptTokens:
    """A sequence of prompt tokens per (image, prompt) pair."""

    tokens: Tensor  # (S, B, D)
    padding_mask: Tensor  # (B, S) bool, True = padding

    def of(self, pairs: slice | Tensor) -> PromptTokens:
        """Those of some pairs: a slice, or their numbers."""
        return PromptTokens(self.tokens[:, pairs], self.padding_mask[pairs])

    def pooled(self) -> Tensor:
        """Mean over the tokens that are no padding, (B, D); zeros where all are."""
        valid = (~self.padding_mask).t()[..., None].to(self.tokens.dtype)  # (S, B, 1)
        return (self.tokens * valid).sum(0) / valid.sum(0).clamp(min=1)


def join_prompts(first: PromptTokens, second: PromptTokens) -> PromptTokens:
    """One prompt of both sequences.

    The released model moves the valid tokens to the front. Attention and pooling skip padding wherever it
    stands, so that is not needed for equal results.
    """
    return PromptTokens(
        tokens=torch.cat((first.tokens, second.tokens), dim=0),
        padding_mask=torch.cat((first.padding_mask, second.padding_mask), dim=1),
    )
