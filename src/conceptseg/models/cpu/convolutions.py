"""Convolutions of a network that is only asked, in the layout that a CPU reads best: channels innermost.

A batch norm that keeps its statistics multiplies and adds by channel, which the convolution before it can do
as well. A convolution of one pixel is then a product of matrices, without the copies that torch makes in one
thread. EfficientNet-Lite0 takes half the time so (docs/decisions/cpu-convolutions.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from conceptseg.models.cpu.parts import asked_on_cpu
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.models.vision.efficientnet_lite import (
    DepthwiseSeparable,
    EfficientNetLite0,
    InvertedResidual,
)
from conceptseg.models.vision.timm_trunk import TimmTrunk
from conceptseg.unstable import state_of


def innermost(x: Tensor) -> Tensor:
    """The same map with its channels lying together."""
    return x.contiguous(memory_format=torch.channels_last)


def lies_innermost(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether each pixel's outputs are of that pixel alone."""
    return (
        conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    )


def of_pixels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of one pixel as a product: (I, C, h, w) innermost -> (I, outputs, h, w) innermost."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class FastConvolution(nn.Conv2d):
    """A product of matrices where that is what it is."""

    def forward(self, x: Tensor) -> Tensor:
        if asked_on_cpu(x) and is_pointwise(self) and lies_innermost(x):
            return of_pixels(x, self.weight, self.bias)
        return super().forward(x)


@dataclass
class Folded:
    """A convolution and the batch norm after it, as one."""

    of: tuple[object, ...]  # the state of the tensors that it was made of
    weight: Tensor
    bias: Tensor


_FOLDED: WeakKeyDictionary[nn.Conv2d, Folded] = WeakKeyDictionary()


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`norm(conv(x))` by running statistics; in float32 in one pass, made anew when a weight changed."""
    if conv.weight.dtype != torch.float32:  # a product with what is rounded would be rounded once more
        y: Tensor = norm(conv(x))
        return y
    assert norm.running_mean is not None and norm.running_var is not None
    tensors = (conv.weight, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    state = tuple(state_of(tensor) for tensor in tensors)
    folded = _FOLDED.get(conv)
    if folded is None or folded.of != state:
        weight, mean, var, scale, offset = (tensor.detach() for tensor in tensors)
        weight, bias = fuse_conv_bn_weights(weight, None, mean, var, norm.eps, scale, offset)
        folded = Folded(state, innermost(weight), bias)
        _FOLDED[conv] = folded
    if is_pointwise(conv):
        return of_pixels(x, folded.weight, folded.bias)
    return F.conv2d(x, folded.weight, folded.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def can_fold(module: nn.Module, x: Tensor) -> bool:
    """Whether batch norm keeps its statistics, and no gradient is needed."""
    return not module.training and asked_on_cpu(x)


@lru_cache(maxsize=16)
def _innermost_table(height: int, width: int, channels: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        table = sine_of_map(height, width, channels, torch.device("cpu"))
        return innermost(table[None].to(dtype))


class FastPyramid(TimmTrunk):
    """Positions in the layout of the maps that they are added to."""

    def with_position(self, level: Tensor) -> Tensor:
        if not asked_on_cpu(level) or not lies_innermost(level):
            return super().with_position(level)
        _, channels, height, width = level.shape
        where = self.position(_innermost_table(height, width, channels, level.dtype))
        return where.add_(level) if len(level) == 1 else level + where


class FoldedTrunk(EfficientNetLite0):
    """Channels innermost from the pixels on: every layer after the first keeps that."""

    def stem(self, pixels: Tensor) -> Tensor:
        if not can_fold(self, pixels):
            return super().stem(pixels)
        return F.relu6(normed(self.conv_stem, self.bn1, innermost(pixels)), inplace=True)


class FoldedDepthwiseSeparable(DepthwiseSeparable):
    def forward(self, x: Tensor) -> Tensor:
        if not can_fold(self, x):
            return super().forward(x)
        y = normed(self.conv_pw, self.bn2, F.relu6(normed(self.conv_dw, self.bn1, x), inplace=True))
        return y.add_(x) if self.adds else y


class FoldedInvertedResidual(InvertedResidual):
    def forward(self, x: Tensor) -> Tensor:
        if not can_fold(self, x):
            return super().forward(x)
        y = F.relu6(normed(self.conv_pw, self.bn1, x), inplace=True)
        y = F.relu6(normed(self.conv_dw, self.bn2, y), inplace=True)
        y = normed(self.conv_pwl, self.bn3, y)
        return y.add_(x) if self.adds else y
