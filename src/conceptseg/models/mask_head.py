"""From memory and queries to masks: pixel decoder, one mask per query, and one semantic map.

Source: reference facts of SAM 3's segmentation head, after MaskFormer (Cheng et al. 2021, arXiv:2107.06278).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import MLP
from conceptseg.models.prompts import PromptTokens


@dataclass
class QueryMasks:
    """The masks of N queries, one product away: a mask is a query's embedding times the pair's maps."""

    embedding: Tensor  # (B, N, D)
    maps: Tensor  # (B, D, h, w)

    def all(self) -> Tensor:
        """Mask logits of every query, (B, N, h, w)."""
        return torch.unflatten(torch.bmm(self.embedding, self.maps.flatten(2)), 2, self.maps.shape[-2:])

    def matched(self, pair_index: Tensor, query_index: Tensor) -> Tensor:
        """Those of some queries alone: (K,) numbers of pairs and of queries in them -> (K, h, w)."""
        order = pair_index.argsort(stable=True)
        chosen = self.embedding[pair_index, query_index][order]  # (K, D), pair by pair
        ends = torch.bincount(pair_index, minlength=len(self.maps)).cumsum(0)[:-1].tolist()
        of_pairs = torch.tensor_split(chosen, ends)  # (k, D) of each pair
        masks = [some @ one.flatten(1) for some, one in zip(of_pairs, self.maps.unbind(), strict=True)]
        return torch.unflatten(torch.cat(masks)[order.argsort()], 1, self.maps.shape[-2:])


class MaskHead(nn.Module):
    def __init__(self, width: int, heads: int, upsampling_stages: int, group_norm_groups: int = 8) -> None:
        super().__init__()
        self.prompt_norm = nn.LayerNorm(width)
        self.prompt_attention = Attention(width, heads)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(upsampling_stages))
        self.norms = nn.ModuleList(nn.GroupNorm(group_norm_groups, width) for _ in range(upsampling_stages))
        self.instance_projection = nn.Conv2d(width, width, 1)
        self.semantic_projection = nn.Conv2d(width, 1, 1)
        self.mask_embedding = MLP(width, width, width, 3)

    def pixels(self, levels: list[Tensor], memory: Tensor, prompt: PromptTokens) -> Tensor:
        """Decode pixel features for every (image, prompt) pair.

        Args:
            levels: feature maps, finest first, each (B, D, h, w) or (1, D, h, w) for one shared image.
            memory: (HW, B, D) of the last level.
            prompt: what was asked, read once more.

        Returns:
            (B, D, h, w) at the resolution of the finest level.
        """
        x = memory.transpose(0, 1)  # (B, HW, D)
        tokens = prompt.tokens.transpose(0, 1)
        x = x + self.prompt_attention(
            self.prompt_norm(x), tokens, tokens, key_padding_mask=prompt.padding_mask
        )
        height, width = levels[-1].shape[-2:]
        y = x.transpose(1, 2).unflatten(2, (height, width))  # the fused map takes the place of the last level
        skips = levels[-2::-1]  # the released model has a stage more than there are finer levels
        for skip, conv, norm in zip(skips, self.convs, self.norms, strict=False):
            y = self.activate(norm(conv(skip + F.interpolate(y, size=skip.shape[-2:], mode="nearest"))))
        return y

    def activate(self, y: Tensor) -> Tensor:
        """What ends each stage of the pixel decoder."""
        return F.relu(y)

    def instance_logits(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Pixel features (B, D, h, w) and queries (N, B, D) -> mask logits (B, N, h, w)."""
        return self.query_masks(pixels, hidden).all()

    def query_masks(self, pixels: Tensor, hidden: Tensor) -> QueryMasks:
        """The same before the product, for those who want the masks of some queries."""
        return QueryMasks(self.mask_embedding(hidden).transpose(0, 1), self.instance_projection(pixels))

    @torch.no_grad()
    def scale_instance_logits(self, factor: float) -> None:
        """From now on `instance_logits` gives `factor` times what it gave; above 0, so no mask changes."""
        last = self.mask_embedding.layers[-1]
        for parameter in last.parameters():
            parameter.mul_(factor)

    def semantic_logits(self, pixels: Tensor) -> Tensor:
        """Pixel features (B, D, h, w) -> (B, 1, h, w): is this pixel part of any instance?"""
        return self.semantic_projection(pixels)
