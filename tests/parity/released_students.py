"""EfficientSAM3's vision encoders once more: plain functions over tensors under their released names.

Written from a description of the released models, to compare with. It knows nothing of `timm`, and takes the
order of layers from the numbers in the names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

TINYVIT_WINDOWS = (0, 7, 14, 7)  # per layer; the first has convolutions only
TINYVIT_HEAD_WIDTH = 32
EFFICIENTVIT_HEAD_WIDTHS = {128: 16, 256: 16, 384: 32}  # by channels of the last stage: b0, b1, b2


class ReleasedStudent:
    """A trunk as released.

    Args:
        tensors: released names below "backbone.vision_backbone.trunk.model." -> tensors.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __call__(self, pixels: Tensor) -> Tensor:
        """(I, 3, H, W) -> (I, 1024, H / 14, W / 14)."""
        x = self.conv(self.backbone(pixels), "head.0")
        x = self.conv(F.gelu(self.norm(x, "head.1")), "head.3")
        size = (pixels.shape[2] // 14, pixels.shape[3] // 14)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def backbone(self, pixels: Tensor) -> Tensor:
        if self.has("backbone.model.features.0"):
            return self.repvit(pixels, "backbone.model")
        if self.has("backbone.model.patch_embed"):
            return self.tinyvit(pixels, "backbone.model")
        return self.efficientvit(pixels, "backbone.model")

    # RepViT

    def repvit(self, x: Tensor, name: str) -> Tensor:
        x = F.gelu(self.conv_bn(x, f"{name}.features.0.0", stride=2))
        x = self.conv_bn(x, f"{name}.features.0.2", stride=2)
        for feature in self.counted(f"{name}.features", start=1):
            mixer = f"{feature}.token_mixer"
            if self.has(f"{mixer}.0.conv1"):  # keeps the resolution
                groups = x.shape[1]
                mixed = self.conv_bn(x, f"{mixer}.0.conv", groups=groups)
                x = self.norm(mixed + self.conv(x, f"{mixer}.0.conv1", groups=groups) + x, f"{mixer}.0.bn")
                if self.has(f"{mixer}.1"):
                    gate = F.relu(self.conv(x.mean((2, 3), keepdim=True), f"{mixer}.1.fc1"))
                    x = x * self.conv(gate, f"{mixer}.1.fc2").sigmoid()
            else:
                x = self.conv_bn(x, f"{mixer}.0", stride=2, groups=x.shape[1])
                x = self.conv_bn(x, f"{mixer}.2")
            hidden = F.gelu(self.conv_bn(x, f"{feature}.channel_mixer.m.0"))
            x = x + self.conv_bn(hidden, f"{feature}.channel_mixer.m.2")
        return x

    # TinyViT

    def tinyvit(self, x: Tensor, name: str) -> Tensor:
        x = F.gelu(self.conv_bn(x, f"{name}.patch_embed.seq.0", stride=2))
        x = self.conv_bn(x, f"{name}.patch_embed.seq.2", stride=2)
        for layer, window in zip(self.counted(f"{name}.layers"), TINYVIT_WINDOWS, strict=True):
            for block in self.counted(f"{layer}.blocks"):
                x = self.tinyvit_block(x, block, window) if window else F.gelu(x + self.three_convs(x, block))
            if self.has(f"{layer}.downsample"):
                x = self.three_convs(x, f"{layer}.downsample", stride=2)
        return x

    def three_convs(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        x = F.gelu(self.conv_bn(x, f"{name}.conv1"))
        x = F.gelu(self.conv_bn(x, f"{name}.conv2", stride=stride, groups=x.shape[1]))
        return self.conv_bn(x, f"{name}.conv3")

    def tinyvit_block(self, x: Tensor, name: str, window: int) -> Tensor:
        images, channels, height, width = x.shape
        padded = F.pad(x, (0, -width % window, 0, -height % window)).permute(0, 2, 3, 1)
        attended = torch.zeros_like(padded)
        for top in range(0, padded.shape[1], window):
            for left in range(0, padded.shape[2], window):
                place = (slice(None), slice(top, top + window), slice(left, left + window))
                tokens = padded[place].reshape(images, window * window, channels)
                attended[place] = self.window_attention(tokens, f"{name}.attn", window).reshape(
                    images, window, window, channels
                )
        x = x + attended[:, :height, :width].permute(0, 3, 1, 2)
        x = self.conv_bn(x, f"{name}.local_conv", groups=channels)
        hidden = self.layer_norm(x.permute(0, 2, 3, 1), f"{name}.mlp.norm")
        hidden = self.linear(F.gelu(self.linear(hidden, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
        return x + hidden.permute(0, 3, 1, 2)

    def window_attention(self, tokens: Tensor, name: str, window: int) -> Tensor:
        qkv = self.linear(self.layer_norm(tokens, f"{name}.norm"), f"{name}.qkv")
        biases = self.tensors[f"{name}.attention_biases"]
        offsets: dict[tuple[int, int], int] = {}  # numbered in the order in which they are met
        cells = list(itertools.product(range(window), range(window)))
        numbers = [
            offsets.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(offsets))
            for a in cells
            for b in cells
        ]
        table = torch.tensor(numbers).reshape(len(cells), len(cells))
        heads = []
        for head in range(biases.shape[0]):
            start = 3 * TINYVIT_HEAD_WIDTH * head
            q, k, v = qkv[..., start : start + 3 * TINYVIT_HEAD_WIDTH].split(TINYVIT_HEAD_WIDTH, dim=-1)
            logits = q @ k.transpose(1, 2) * TINYVIT_HEAD_WIDTH**-0.5 + biases[head][table]
            heads.append(logits.softmax(dim=-1) @ v)
        return self.linear(torch.cat(heads, dim=-1), f"{name}.proj")

    # EfficientViT

    def efficientvit(self, x: Tensor, name: str) -> Tensor:
        stem, *residual = self.counted(f"{name}.input_stem.op_list")
        x = F.hardswish(self.conv_bn(x, stem, stride=2, norm="norm", conv="conv"))
        for block in residual:
            x = x + self.layers(x, f"{block}.main", ("depth_conv", "point_conv"))
        for stage in self.counted(f"{name}.stages"):
            for number, block in enumerate(self.counted(f"{stage}.op_list")):
                if self.has(f"{block}.context_module"):
                    x = x + self.linear_attention(x, f"{block}.context_module.main")
                    x = x + self.inverted(x, f"{block}.local_module.main")
                else:
                    y = self.inverted(x, f"{block}.main", stride=1 if number else 2)
                    x = x + y if number else y
        return x

    def inverted(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        return self.layers(x, name, ("inverted_conv", "depth_conv", "point_conv"), stride)

    def layers(self, x: Tensor, name: str, parts: tuple[str, ...], stride: int = 1) -> Tensor:
        for part in parts:
            depthwise = part == "depth_conv"
            x = self.conv(
                x, f"{name}.{part}.conv", stride if depthwise else 1, x.shape[1] if depthwise else 1
            )
            if self.has(f"{name}.{part}.norm"):
                x = self.norm(x, f"{name}.{part}.norm")
            if part != parts[-1]:
                x = F.hardswish(x)
        return x

    def linear_attention(self, x: Tensor, name: str) -> Tensor:
        qkv = self.conv(x, f"{name}.qkv.conv")
        wide = self.conv(qkv, f"{name}.aggreg.0.0", groups=qkv.shape[1])
        aggregated = self.conv(wide, f"{name}.aggreg.0.1", groups=self.attention_groups(name))
        dim = self.tensors[f"{name}.aggreg.0.1.weight"].shape[1]
        read = []
        for head in torch.cat((qkv, aggregated), dim=1).flatten(2).split(3 * dim, dim=1):
            q, k, v = head.split(dim, dim=1)  # each (I, dim, HW)
            v = torch.cat((v, torch.ones_like(v[:, :1])), dim=1)
            out = v @ F.relu(k).transpose(1, 2) @ F.relu(q)
            read.append(out[:, :-1] / (out[:, -1:] + 1e-15))
        joined = torch.cat(read, dim=1).unflatten(2, x.shape[2:])
        return self.norm(self.conv(joined, f"{name}.proj.conv"), f"{name}.proj.norm")

    def attention_groups(self, name: str) -> int:
        weight = self.tensors[f"{name}.aggreg.0.1.weight"]
        return weight.shape[0] // weight.shape[1]

    # Layers

    def conv_bn(
        self, x: Tensor, name: str, stride: int = 1, groups: int = 1, conv: str = "c", norm: str = "bn"
    ) -> Tensor:
        return self.norm(self.conv(x, f"{name}.{conv}", stride, groups), f"{name}.{norm}")

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        bias = self.tensors.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self.tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=1e-5)

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps=1e-5)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    # Names

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.tensors)

    def counted(self, name: str, start: int = 0) -> list[str]:
        """name.0, name.1, ... as far as there are tensors."""
        found: Callable[[int], bool] = lambda number: self.has(f"{name}.{number}")  # noqa: E731
        return [f"{name}.{number}" for number in itertools.takewhile(found, itertools.count(start))]


@torch.no_grad()
def randomise(module: torch.nn.Module, pixels: Tensor, seed: int = 0) -> None:
    """Random values for all; batch norms as if trained on these pixels, so that a signal comes through."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            value.fill_(7)
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("attention_biases"):
            value.copy_(2 * noise)  # so that positions matter
        elif value.dim() > 1:
            value.copy_(noise * value[0].numel() ** -0.5)
        else:
            value.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # keep what the next pass sees
    module.train()(pixels)
    module.eval()
