"""EfficientSAM3's vision encoders: a small backbone of `timm`, and a head that makes SAM 3's map of it.

pixels (I, 3, H, W) -> one map (I, head_width, H / 14, W / 14). Source: reference facts of the official code;
the backbones are RepViT (Wang et al. 2023, arXiv:2307.09283), TinyViT (Wu et al. 2022, arXiv:2207.10666) and
EfficientViT (Cai et al. 2022, arXiv:2205.14756).

`timm` has the released structure of all nine, and differs in two places, which are mended here:

- EfficientViT divides by a sum plus 1e-5 where the released model adds 1e-15;
- TinyViT keeps the expanded bias of its attention until it is moved or trained, through a change of weights
  too, and the table that it expands it with is not stored with the weights. `WindowAttention` keeps neither.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.unstable import timm_blocks

BACKBONES = {  # ours -> timm's; the image size in TinyViT's names does not matter
    "repvit_m0_9": "repvit_m0_9",
    "repvit_m1_1": "repvit_m1_1",
    "repvit_m2_3": "repvit_m2_3",
    "tinyvit_5m": "tiny_vit_5m_224",
    "tinyvit_11m": "tiny_vit_11m_224",
    "tinyvit_21m": "tiny_vit_21m_224",
    "efficientvit_b0": "efficientvit_b0",
    "efficientvit_b1": "efficientvit_b1",
    "efficientvit_b2": "efficientvit_b2",
}
LINEAR_ATTENTION_EPS = 1e-15  # as released
# Linear attention multiplies its queries and its keys by this, and epsilon by the square. It is a power of
# two, so the quotient stays the same to the last digit; but epsilon becomes 1.1, where torch's ONNX exporter
# takes an addition of less than 1e-8 for one of zero and leaves it out, after which a query that meets no key
# divides zero by zero.
LINEAR_ATTENTION_SCALE = 2.0**25


class Student(nn.Module):
    """The trunk; `channels` describes its one output map.

    Args:
        backbone: a key of `BACKBONES`.
        head_width: channels of the map.
        stride: the map has one cell per this many pixels.
        fine_map: add the backbone's map at 1/16 of the image to its last one, at 1/32. Released students have
            none; what they give to small objects is brought to size from the last map alone.
    """

    def __init__(self, backbone: str, head_width: int, stride: int, fine_map: bool = False) -> None:
        super().__init__()
        self.channels = (head_width,)
        self.stride = stride
        self.backbone = build_backbone(backbone)
        features: int = self.backbone.num_features  # type: ignore[assignment]  # every timm model has it
        fine: int = self.backbone.feature_info[-2]["num_chs"]  # type: ignore[index,assignment]  # likewise
        self.lateral = nn.Conv2d(fine, features, 1) if fine_map else None
        self.head = nn.Sequential(
            nn.Conv2d(features, head_width, 1, bias=False),
            nn.BatchNorm2d(head_width),
            nn.GELU(),
            nn.Conv2d(head_width, head_width, 3, padding=1),
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        size_hw = [side // self.stride for side in pixels.shape[-2:]]
        x = self.head(self._features(pixels))  # (I, head_width, H / 32, W / 32), or H / 16, W / 16
        # Brought to the size of SAM 3's map last, where it is wide but no layer has to work at that size.
        return [F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)]

    def _features(self, pixels: Tensor) -> Tensor:
        """(I, C, H / 32, W / 32), or H / 16, W / 16 with a fine map."""
        if self.lateral is None:
            return self.backbone.forward_features(pixels)  # type: ignore[operator]
        read = self.backbone.forward_intermediates
        fine, x = read(pixels, indices=2, intermediates_only=True)  # type: ignore[operator]
        return self.lateral(fine) + F.interpolate(x, fine.shape[-2:], mode="nearest")


def build_backbone(name: str) -> nn.Module:
    """A `timm` model with fresh weights and without its classifier, computing what the released one does."""
    import timm  # takes a second, which only those wait for who build a student

    linear_attention, windowed_block = timm_blocks()
    model: nn.Module = timm.create_model(BACKBONES[name], pretrained=False, num_classes=0)
    model.head = nn.Identity()
    for module in model.modules():
        if isinstance(module, linear_attention):
            module.kernel_func = ScaledReLU()
            module.eps = LINEAR_ATTENTION_EPS * LINEAR_ATTENTION_SCALE**2
        elif isinstance(module, windowed_block):
            attention = WindowAttention(module.dim, module.num_heads, module.window_size)
            module.attn = attention  # in place of timm's own
    return model


class ScaledReLU(nn.Module):
    """What EfficientViT's linear attention does to queries and keys; in float32, which has room for it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).float() * LINEAR_ATTENTION_SCALE


class WindowAttention(nn.Module):
    """TinyViT's attention among the tokens of one square window, biased by how far apart they are.

    Parameters have the names that `timm` gives them; nothing else is kept.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        for linear in (self.qkv, self.proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:  # (windows, window^2, C)
        # Queries, keys and values of one head lie together.
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # (windows, heads, window^2, C / heads)
        bias = self.attention_biases[:, self.distances()]  # (heads, window^2, window^2)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(x.transpose(1, 2).flatten(2))

    def distances(self) -> Tensor:
        """For every two tokens their column in the bias table: rows apart x window + columns apart."""
        steps = torch.arange(self.window, device=self.attention_biases.device)
        apart = (steps[:, None] - steps).abs()
        pairs = self.window * apart[:, None, :, None] + apart[:, None, :]  # (row, column, row, column)
        return pairs.flatten(2).flatten(0, 1)
