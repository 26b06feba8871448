"""Image tokens read the prompt ("read the question").

Feature maps (B, D, H, W) and prompt (S, B, D) -> memory (HW, B, D), in which every image token knows what was
asked. Source: reference facts of SAM 3's transformer encoder; the option to add the pooled prompt to the
image is off in the released model.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import FeedForward
from conceptseg.models.prompts import PromptTokens


@dataclass
class FusionOutput:
    memory: Tensor  # (HW, B, D), levels one after the other
    padding_mask: Tensor | None  # (B, HW) True = padding; None: nothing is padded
    positions: Tensor  # (HW, 1 or B, D)
    prompt: PromptTokens  # passed through
    level_start_index: Tensor  # (levels,) long, first token of each level
    spatial_shapes: Tensor  # (levels, 2) long, height and width
    valid_ratios: Tensor  # (B, levels, 2), valid share of width and height; ones without padding

    def of(self, pairs: slice) -> FusionOutput:
        """The same of some pairs."""
        return dataclasses.replace(
            self,
            memory=self.memory[:, pairs],
            padding_mask=None if self.padding_mask is None else self.padding_mask[pairs],
            positions=self.positions if self.positions.shape[1] == 1 else self.positions[:, pairs],
            prompt=self.prompt.of(pairs),
            valid_ratios=self.valid_ratios[pairs],
        )


class FusionEncoder(nn.Module):
    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        levels: int = 1,
        pre_norm: bool = True,
        pool_prompt: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pool_prompt = pool_prompt
        self.pooling_projection = nn.Linear(width, width) if pool_prompt != "none" else None
        self.level_embedding = nn.Parameter(torch.empty(levels, width)) if levels > 1 else None
        self.layers = nn.ModuleList(
            FusionLayer(width, heads, mlp_width, pre_norm, dropout) for _ in range(layers)
        )
        if self.level_embedding is not None:
            nn.init.normal_(self.level_embedding)

    def forward(
        self,
        levels: list[Tensor],
        positions: list[Tensor],
        prompt: PromptTokens,
        prompt_positions: Tensor | None = None,
        padding_masks: list[Tensor] | None = None,
        image_index: Tensor | None = None,
    ) -> FusionOutput:
        """Let every image token read the prompt.

        Args:
            levels: one (B, D, H, W) per level, or (I, D, H, W) with `image_index`.
            positions: one (D, H, W) per level.
            prompt: (S, B, D) and its padding.
            prompt_positions: (S, B, D), added to the keys of the prompt; None in the released model.
            padding_masks: one (B, H, W) per level, True = padding; None: images fill their maps.
            image_index: (B,) long, the image of each pair; None: each has its own. Until an image has read a
                prompt it is the same for all of them, so the first self-attention is done once per image.
        """
        shared = image_index is not None and self._starts_without_prompt and padding_masks is None
        if image_index is not None and not shared:
            levels = [_of_pairs(level, image_index) for level in levels]
        if self.pooling_projection is not None:
            pooled = self.pooling_projection(self._pool(prompt))  # (B, D)
            levels = [level + pooled[:, :, None, None] for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # (B, HW, D)
        position = self._flatten_positions(positions).to(x.dtype)  # (1, HW, D)
        padding = None if padding_masks is None else torch.cat([m.flatten(1) for m in padding_masks], dim=1)
        tokens = prompt.tokens.transpose(0, 1)  # (B, S, D)
        keys = tokens if prompt_positions is None else tokens + prompt_positions.transpose(0, 1)
        if shared and image_index is not None:
            first = cast(FusionLayer, self.layers[0])
            x = _of_pairs(first.look(x, position, None), image_index)
        x = self.run_layers(x, position, padding, keys, tokens, prompt.padding_mask, seen=shared)
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        starts = [sum(h * w for h, w in sizes[:i]) for i in range(len(sizes))]
        return FusionOutput(
            memory=x.transpose(0, 1),
            padding_mask=padding,
            positions=position.transpose(0, 1),
            prompt=prompt,
            level_start_index=torch.tensor(starts, device=x.device),
            spatial_shapes=torch.tensor(sizes, device=x.device),
            valid_ratios=_valid_ratios(padding_masks, x, len(sizes)),
        )

    def run_layers(
        self,
        x: Tensor,
        position: Tensor,
        padding: Tensor | None,
        keys: Tensor,
        values: Tensor,
        prompt_padding: Tensor,
        seen: bool,
    ) -> Tensor:
        """Every layer in turn, (B, HW, D) in and out; `seen` says that the first one's `look` was done."""
        for number, layer in enumerate(self.layers):
            x = layer(x, position, padding, keys, values, prompt_padding, seen and number == 0)
        return x

    @property
    def _starts_without_prompt(self) -> bool:
        """Whether the first step is self-attention among unchanged image tokens, without randomness."""
        return len(self.layers) > 0 and self.pooling_projection is None and not self.training

    def _pool(self, prompt: PromptTokens) -> Tensor:
        return prompt.tokens.mean(dim=0) if self.pool_prompt == "mean" else prompt.pooled()

    def _flatten_positions(self, positions: list[Tensor]) -> Tensor:
        flat = [p.flatten(1).t() for p in positions]  # (H * W, D)
        if self.level_embedding is not None:
            flat = [p + level for p, level in zip(flat, self.level_embedding, strict=True)]
        return torch.cat(flat)[None]


class FusionLayer(nn.Module):
    """Self-attention among image tokens, attention into the prompt, feed-forward.

    Positions are added to queries and keys of the self-attention only.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, pre_norm: bool, dropout: float) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = Attention(width, heads, dropout)
        self.prompt_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, mlp_width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        padding_mask: Tensor | None,
        prompt_keys: Tensor,
        prompt_values: Tensor,
        prompt_padding_mask: Tensor,
        seen: bool = False,
    ) -> Tensor:
        """One layer; `seen` says that `look` was done already."""

        def read(n: Tensor) -> Tensor:
            read = self.prompt_attention(n, prompt_keys, prompt_values, key_padding_mask=prompt_padding_mask)
            return self.dropout(read)

        def think(n: Tensor) -> Tensor:
            return self.dropout(self.feed_forward(n))

        x = x if seen else self.look(x, position, padding_mask)
        for step, norm in ((read, self.norm2), (think, self.norm3)):
            x = x + step(norm(x)) if self.pre_norm else norm(x + step(x))
        return x

    def look(self, x: Tensor, position: Tensor, padding_mask: Tensor | None) -> Tensor:
        """The first third of the layer: image tokens attend to each other."""

        def attend(n: Tensor) -> Tensor:
            qk = n + position
            return self.dropout(self.self_attention(qk, qk, n, key_padding_mask=padding_mask))

        return x + attend(self.norm1(x)) if self.pre_norm else self.norm1(x + attend(x))


def _of_pairs(x: Tensor, image_index: Tensor) -> Tensor:
    """(I, ...) -> (B, ...), each pair's image; a single image is shared, not copied."""
    if x.shape[0] == 1:
        return x.expand(image_index.shape[0], *x.shape[1:])
    return x[image_index]


def _valid_ratios(padding_masks: list[Tensor] | None, x: Tensor, levels: int) -> Tensor:
    if padding_masks is None:
        return torch.ones(x.shape[0], levels, 2, dtype=torch.float32, device=x.device)
    valid = [~mask for mask in padding_masks]
    ratios = [torch.stack((v[:, 0].float().mean(1), v[:, :, 0].float().mean(1)), dim=-1) for v in valid]
    return torch.stack(ratios, dim=1)
