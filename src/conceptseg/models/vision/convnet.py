"""A small residual network under a top-down path: a trunk that is trained from nothing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.vision.pyramid import PyramidTrunk


class ConvNet(PyramidTrunk):
    """Four stages of residual blocks; see `PyramidTrunk` for what becomes of them."""

    def __init__(
        self, stem_width: int, widths: tuple[int, ...], blocks: tuple[int, ...], pyramid_width: int
    ) -> None:
        super().__init__(widths, pyramid_width)
        self.stem = conv_norm(3, stem_width, kernel=3, stride=2)
        sizes = [stem_width, *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(a, b, stride=2), *(ResidualBlock(b, b) for _ in range(count - 1)))
            for a, b, count in zip(sizes, sizes[1:], blocks, strict=False)
        )

    def bottom_up(self, pixels: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(pixels))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)  # strides 4, 8, 16, 32
        return maps


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_norm(inputs, outputs, kernel=3, stride=stride)
        self.conv2 = conv_norm(outputs, outputs, kernel=3)
        self.shortcut = (
            nn.Identity() if inputs == outputs and stride == 1 else conv_norm(inputs, outputs, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm; no activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
