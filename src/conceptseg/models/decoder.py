"""Object queries and one presence token look into the memory ("answer it").

Each layer refines the reference box of every query; attention into the image is biased by where the box lies.
Source: reference facts of SAM 3's decoder: box refinement of DAB-DETR (Liu et al. 2022, arXiv:2201.12329),
box-relative position bias of Plain DETR (Lin et al. 2023, arXiv:2308.01904), one-to-many queries of DAC-DETR
(Hu et al. 2023).
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conceptseg.models.boxes import cxcywh_to_xyxy, inverse_sigmoid
from conceptseg.models.fusion_encoder import FusionOutput
from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import MLP, FeedForward
from conceptseg.models.layers.positions import sine_of_reference_boxes
from conceptseg.models.presence_head import PresenceHead


@dataclass
class DecoderOutput:
    hidden: Tensor  # (L, N, B, D), normalised
    reference_boxes: Tensor  # (L, N, B, 4) cxcywh that each layer started from
    boxes_cxcywh: Tensor  # (L, N, B, 4) cxcywh that each layer arrived at
    presence_logits: Tensor  # (L, B)
    presence_feature: Tensor  # (1, B, D), presence token after the last layer
    one_to_many: OneToManyQueries | None  # in training, when the decoder is built with them


@dataclass
class OneToManyQueries:
    hidden: Tensor  # (L, N, B, D)
    boxes_cxcywh: Tensor  # (L, N, B, 4)


class Decoder(nn.Module):
    """The decoder; see `models.config.DecoderConfig` for the arguments."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        queries: int,
        text_attention: bool = True,
        box_bias: bool = True,
        one_to_many: bool = True,
        ffn_float32: bool = True,
        dropout: float = 0.0,
        presence_layers: int = 3,
        presence_logit_limit: float | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.one_to_many = one_to_many
        self.query_embedding = nn.Parameter(torch.empty(queries, width))
        self.reference_points = nn.Parameter(torch.empty(queries, 4))  # logits of cxcywh
        self.presence_token = nn.Parameter(torch.empty(1, width))
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, mlp_width, text_attention, ffn_float32, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.box_head = MLP(width, width, 4, 3)
        self.reference_head = MLP(2 * width, width, width, 2)
        self.box_bias = BoxRelativeBias(width, heads) if box_bias else None
        self.presence_head = PresenceHead(width, presence_layers, presence_logit_limit)
        nn.init.normal_(self.query_embedding)
        nn.init.normal_(self.reference_points)
        nn.init.xavier_uniform_(self.presence_token)
        for parameter in self.box_head.layers[-1].parameters():
            nn.init.zeros_(parameter)

    @torch.no_grad()
    def start_on_grid(self) -> None:
        """Spread the reference boxes over the image, and let attention begin inside them.

        From random boxes and a random bias, queries spend thousands of steps on finding a place of their own.
        """
        self.reference_points.copy_(inverse_sigmoid(_grid_boxes(self.reference_points.shape[0])))
        if self.box_bias is not None:
            self.box_bias.start_inside()

    def forward(self, fusion: FusionOutput, size_hw: tuple[int, int]) -> DecoderOutput:
        """Answer the prompt.

        Args:
            fusion: memory (HW, B, D), its positions and the prompt.
            size_hw: tokens per side of the memory; only the box-relative bias, made for one level, reads it.
        """
        pairs = fusion.memory.shape[1]
        memory = fusion.memory.transpose(0, 1)  # (B, HW, D)
        memory_keys = memory + fusion.positions.transpose(0, 1)
        prompt_tokens = fusion.prompt.tokens.transpose(0, 1)  # (B, S, D)
        sets = 2 if self.one_to_many and self.training else 1
        x = self.query_embedding.repeat(sets, 1)[None].expand(pairs, -1, -1)  # (B, N, D)
        reference = self.reference_points.sigmoid().repeat(sets, 1)[None].expand(pairs, -1, -1)  # (B, N, 4)
        presence = self.presence_token[None].expand(pairs, -1, -1)  # (B, 1, D)

        start = reference  # what this layer starts from; from the second layer on without gradient
        hidden, references, boxes, presence_logits = [], [], [], []
        for layer in self.layers:
            encoding = sine_of_reference_boxes(_on_padded_map(start, fusion), self.width).to(memory.dtype)
            x, presence = layer(
                x=x,
                presence=presence,
                query_position=self.reference_head(encoding),
                prompt=prompt_tokens,
                prompt_padding_mask=fusion.prompt.padding_mask,
                memory=memory,
                memory_keys=memory_keys,
                memory_padding_mask=fusion.padding_mask,
                # The presence token comes first, and its bias is none.
                image_bias=None if self.box_bias is None else self.box_bias(start, size_hw, unbiased=1),
                sets=sets,
            )
            h = self.norm(x)
            delta = self.box_head(h).float()
            hidden.append(h)
            references.append(reference)
            # The box of a layer is refined from one that keeps its gradient, so that each layer also learns
            # from the loss of the next ("look forward twice"); what the next layer sees of it is detached.
            boxes.append((delta + inverse_sigmoid(reference)).sigmoid())
            reference = (delta + inverse_sigmoid(start)).sigmoid()
            start = reference.detach()
            presence_logits.append(self.presence_head(presence[:, 0]))

        def stacked(per_layer: list[Tensor]) -> Tensor:
            return torch.stack(per_layer).transpose(1, 2)  # (L, N, B, .)

        queries = self.query_embedding.shape[0]
        all_hidden, all_boxes = stacked(hidden), stacked(boxes)
        return DecoderOutput(
            hidden=all_hidden[:, :queries],
            reference_boxes=stacked(references)[:, :queries],
            boxes_cxcywh=all_boxes[:, :queries],
            presence_logits=torch.stack(presence_logits),
            presence_feature=presence.transpose(0, 1),
            one_to_many=OneToManyQueries(all_hidden[:, queries:], all_boxes[:, queries:])
            if sets == 2
            else None,
        )


class DecoderLayer(nn.Module):
    """Self-attention, attention into the prompt, attention into the image, feed-forward; norms come last."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, text_attention: bool, ffn_float32: bool, dropout: float
    ) -> None:
        super().__init__()
        self.ffn_float32 = ffn_float32
        self.self_attention = Attention(width, heads, dropout)
        self.self_norm = nn.LayerNorm(width)
        self.prompt_attention = Attention(width, heads, dropout) if text_attention else None
        self.prompt_norm = nn.LayerNorm(width) if text_attention else None
        self.image_attention = Attention(width, heads, dropout)
        self.image_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, mlp_width, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        presence: Tensor,
        query_position: Tensor,
        prompt: Tensor,
        prompt_padding_mask: Tensor,
        memory: Tensor,
        memory_keys: Tensor,
        memory_padding_mask: Tensor | None,
        image_bias: Tensor | None,
        sets: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, N, D) and presence (B, 1, D) -> the same, one layer on.

        `image_bias` is (B, heads, 1 + N, HW), presence first.

        With two query sets only the first and the presence token see each other in self-attention; the
        second, trained one-to-many, must not learn to suppress duplicates.
        """
        # The presence token asks about the whole image, so its position is zero.
        position = torch.cat((torch.zeros_like(presence), query_position), dim=1)  # (B, 1 + N, D)
        t = torch.cat((presence, x), dim=1)
        first = 1 + x.shape[1] // sets
        head, rest = t[:, :first], t[:, first:]
        with_position = head + position[:, :first]
        head = head + self.dropout(self.self_attention(with_position, with_position, head))
        t = self.self_norm(torch.cat((head, rest), dim=1) if sets > 1 else head)
        if self.prompt_attention is not None and self.prompt_norm is not None:
            read = self.prompt_attention(t + position, prompt, prompt, key_padding_mask=prompt_padding_mask)
            t = self.prompt_norm(t + self.dropout(read))
        seen = self.image_attention(
            t + position, memory_keys, memory, key_padding_mask=memory_padding_mask, bias=image_bias
        )
        t = self.image_norm(t + self.dropout(seen))
        t = self.feed_forward_norm(t + self.dropout(self._feed_forward(t)))
        return t[:, 1:], t[:, :1]

    def _feed_forward(self, t: Tensor) -> Tensor:
        context = (
            torch.autocast(t.device.type, enabled=False) if self.ffn_float32 else contextlib.nullcontext()
        )
        with context:
            return self.feed_forward(t.to(self.feed_forward.linear1.weight.dtype) if self.ffn_float32 else t)


class BoxRelativeBias(nn.Module):
    """Attention bias from how far a token's column and row lie from the box's sides, on a log scale."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.columns = MLP(2, width, heads, 2)
        self.rows = MLP(2, width, heads, 2)

    @torch.no_grad()
    def start_inside(self, steepness: float = 20.0) -> None:
        """Begin with a bias that falls off outside the box: less from head to head, not for the last."""
        for mlp in (self.columns, self.rows):
            first, last = mlp.layers[0], mlp.layers[-1]
            assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
            # Two hidden units measure how far a token lies before the near side and behind the far side.
            first.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
            first.bias[:2] = 0
            falloff = torch.linspace(steepness, 0, last.out_features)
            last.weight[:, :2] = -falloff[:, None]

    def forward(self, boxes_cxcywh: Tensor, size_hw: tuple[int, int], unbiased: int = 0) -> Tensor:
        """Bias of queries by their boxes.

        Args:
            boxes_cxcywh: (B, N, 4) in 0..1.
            size_hw: tokens per side.
            unbiased: queries without a box, which come first; their bias is zero.

        Returns:
            (B, heads, unbiased + N, H * W).
        """
        height, width = size_hw
        x0, y0, x1, y1 = cxcywh_to_xyxy(boxes_cxcywh).unbind(-1)
        # Tokens are measured at their left and top edge, without half a token: as released.
        column = torch.arange(width, dtype=boxes_cxcywh.dtype, device=boxes_cxcywh.device) / width
        row = torch.arange(height, dtype=boxes_cxcywh.dtype, device=boxes_cxcywh.device) / height
        to_columns = self.columns(_log_distance(column, torch.stack((x0, x1), dim=-1)))  # (B, N, W, heads)
        to_rows = self.rows(_log_distance(row, torch.stack((y0, y1), dim=-1)))  # (B, N, H, heads)
        # The small tables are turned, not their sum, which then lies in memory as attention reads it; and
        # turned in memory too, because sums of strided numbers take four times as long.
        rows, columns = (
            nn.functional.pad(table, (0, 0, 0, 0, unbiased, 0)).permute(0, 3, 1, 2).contiguous()
            for table in (to_rows, to_columns)
        )  # (B, heads, unbiased + N, .)
        return (rows[..., :, None] + columns[..., None, :]).flatten(3)


def _on_padded_map(boxes_cxcywh: Tensor, fusion: FusionOutput) -> Tensor:
    """Boxes (B, N, 4) relative to the image -> relative to its map, which padding makes larger."""
    if fusion.padding_mask is None:
        return boxes_cxcywh
    return boxes_cxcywh * fusion.valid_ratios[:, :1].repeat(
        1, 1, 2
    )  # width, height, width, height of the first level


def _log_distance(coordinate: Tensor, sides: Tensor) -> Tensor:
    """(K,) and (B, N, 2) -> (B, N, K, 2): signed distance, x8, log2(|.| + 1) / log2(8)."""
    distance = (coordinate[:, None] - sides[..., None, :]) * 8
    return distance.sign() * torch.log2(distance.abs() + 1) / math.log2(8)


def _grid_boxes(count: int) -> Tensor:
    """(count, 4) cxcywh: two thirds small boxes on a fine grid, the rest larger ones on a coarse one."""
    fine = round(0.8 * math.sqrt(count))
    coarse = math.ceil(math.sqrt(max(count - fine * fine, 0)))
    boxes = []
    for side, scale in ((fine, 1.1), (coarse, 2.2)):
        boxes += [
            [(column + 0.5) / side, (row + 0.5) / side, scale / side, scale / side]
            for row in range(side)
            for column in range(side)
        ]
    return torch.tensor(boxes[:count])
