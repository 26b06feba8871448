"""The parts of the network in the form that is fastest on a CPU: each is the plain one but for one method.

What they do differently, they do only where nothing is exported, compiled or trained; elsewhere they are the
plain ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.cpu.attend import attend
from conceptseg.models.cpu.choice import AttentionKernel
from conceptseg.models.cpu.convolutions import (
    FastConvolution,
    FastPyramid,
    FoldedDepthwiseSeparable,
    FoldedInvertedResidual,
    FoldedTrunk,
)
from conceptseg.models.cpu.packing import PackedLinear
from conceptseg.models.cpu.parts import asked_on_cpu, by_parts, in_parts
from conceptseg.models.cpu.trunk import blocks_in_rows, run_in_rows
from conceptseg.models.decoder import Decoder, DecoderOutput
from conceptseg.models.fusion_encoder import FusionEncoder, FusionOutput
from conceptseg.models.layers.attention import Attention
from conceptseg.models.layers.mlp import MLP, FeedForward
from conceptseg.models.layers.rope import rotate
from conceptseg.models.mask_head import MaskHead
from conceptseg.models.vision.efficientnet_lite import (
    DepthwiseSeparable,
    EfficientNetLite0,
    InvertedResidual,
)
from conceptseg.models.vision.timm_trunk import TimmTrunk
from conceptseg.models.vision.vit import Block, RotaryAttention, VisionTransformer

PART = 24  # side of the squares that a feed-forward takes one after the other, in tokens


class FastAttention(Attention):
    """By the kernel that is fastest on this processor."""

    asking: AttentionKernel = "blocks"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool
    ) -> Tensor:
        return attend(q, k, v, mask, dropout, causal, self.asking)


class FastRotaryAttention(RotaryAttention):
    """The same, with queries and keys turned by one product of complex numbers."""

    asking: AttentionKernel = "blocks"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turn = rotate_by_complex_product if asked_on_cpu(q) else rotate
        return attend(turn(q, cos, sin), turn(k, cos, sin), v, asking=self.asking)


class TrunkInRows(VisionTransformer):
    """With many tokens in each product, where the processor needs them."""

    asking: AttentionKernel = "blocks"
    rows = 0  # tokens of a product; 0: block by block

    def run_blocks(self, x: Tensor) -> Tensor:  # (I, h, w, C)
        blocks = blocks_in_rows(self.blocks, x) if self.rows and in_parts(x) else []
        return run_in_rows(blocks, x, self.rows, self.asking) if blocks else super().run_blocks(x)


class BlockInParts(Block):
    """Window by window, so that what lies between two layers stays in the cache."""

    def forward(self, x: Tensor) -> Tensor:  # (I, h, w, C)
        if not in_parts(x):
            return super().forward(x)
        if self.window:  # nothing is read across windows, so the whole block takes one after the other
            return by_parts(super().forward, x, self.window)
        return by_parts(self.think, self.look(x), PART)


class FeedForwardInPlace(FeedForward):
    """Without fresh memory for a wide map, or a pass over it, which take longer than a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.linear1, PackedLinear) and not self.training:
            return self.linear2(self.linear1(x, then="relu"))
        x = self.linear1(x)
        return self.linear2(self.dropout(F.relu(x, inplace=in_parts(x))))


class MLPInPlace(MLP):
    """Likewise: of the decoder's box bias every phrase has 16,000 rows, and more at SAM 3's sizes."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x)
            x = F.relu(x, inplace=asked_on_cpu(x))
        last: Tensor = self.layers[-1](x)
        return last


class FusionPairByPair(FusionEncoder):
    """One pair at a time, so that what lies between two layers of a large map stays in the cache."""

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
        if not in_parts(x[:1]) or len(x) == 1:
            return super().run_layers(x, position, padding, keys, values, prompt_padding, seen)
        done = torch.empty_like(x, memory_format=torch.contiguous_format)  # of pairs that may share an image
        for number in range(len(x)):
            one = slice(number, number + 1)
            pad = None if padding is None else padding[one]
            done[one] = super().run_layers(
                x[one], position, pad, keys[one], values[one], prompt_padding[one], seen
            )
        return done


class DecoderPairByPair(Decoder):
    """One pair at a time: else the bias of every query to every token of a large map leaves the cache."""

    def forward(self, fusion: FusionOutput, size_hw: tuple[int, int]) -> DecoderOutput:
        pairs = fusion.memory.shape[1]
        if self.training or not in_parts(fusion.memory[:, :1]) or pairs == 1:
            return super().forward(fusion, size_hw)
        answer = super().forward
        return _joined([answer(fusion.of(slice(i, i + 1)), size_hw) for i in range(pairs)])


class FastMaskHead(MaskHead):
    """Without fresh memory for large maps, and in half precision with the projection done on the queries."""

    def activate(self, y: Tensor) -> Tensor:
        return F.relu(y, inplace=in_parts(y))

    def instance_logits(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """The same but for rounding; there are N queries to project, and h * w pixels."""
        embedding = self.mask_embedding(hidden).transpose(0, 1)  # (B, N, D)
        if not asked_on_cpu(embedding) or embedding.dtype not in (torch.bfloat16, torch.float16):
            return super().instance_logits(pixels, hidden)
        weight, bias = self.instance_projection.weight, self.instance_projection.bias
        assert bias is not None
        read = embedding @ weight.flatten(1)  # (B, N, D)
        shift = embedding @ bias.to(embedding.dtype)  # (B, N)
        # Pixels come first: in memory their channels lie together, and turning the map would take longer.
        columns = pixels.flatten(2).transpose(1, 2).to(read.dtype)  # (B, h * w, D)
        logits = torch.bmm(columns, read.transpose(1, 2)).transpose(1, 2) + shift[..., None]
        return torch.unflatten(logits.contiguous(), 2, pixels.shape[-2:])


# Of the plain ones exactly: what something else was made of (low-rank tuning, recomputing) stays as it is.
FAST: dict[type[nn.Module], type[nn.Module]] = {
    Attention: FastAttention,
    RotaryAttention: FastRotaryAttention,
    VisionTransformer: TrunkInRows,
    Block: BlockInParts,
    FeedForward: FeedForwardInPlace,
    MLP: MLPInPlace,
    FusionEncoder: FusionPairByPair,
    Decoder: DecoderPairByPair,
    MaskHead: FastMaskHead,
    nn.Conv2d: FastConvolution,
    TimmTrunk: FastPyramid,
    EfficientNetLite0: FoldedTrunk,
    DepthwiseSeparable: FoldedDepthwiseSeparable,
    InvertedResidual: FoldedInvertedResidual,
}


def rotate_by_complex_product(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rope.rotate`, the same products in a sixth of the time, in a form that cannot be exported."""
    pairs = torch.unflatten(x.float(), -1, (-1, 2))
    turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)


def _joined(answers: list[DecoderOutput]) -> DecoderOutput:
    """Answers of single pairs, as one of all of them."""
    return DecoderOutput(
        hidden=torch.cat([answer.hidden for answer in answers], dim=2),
        reference_boxes=torch.cat([answer.reference_boxes for answer in answers], dim=2),
        boxes_cxcywh=torch.cat([answer.boxes_cxcywh for answer in answers], dim=2),
        presence_logits=torch.cat([answer.presence_logits for answer in answers], dim=1),
        presence_feature=torch.cat([answer.presence_feature for answer in answers], dim=1),
        one_to_many=None,  # of training, which takes pairs together
    )
