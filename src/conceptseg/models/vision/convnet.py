"""The vision encoder of `nano`: a small residual network with a top-down path.

pixels (I, 3, H, W) -> maps at 1/4, 1/8 and 1/16 of the image, of `pyramid_width` channels each. The coarse
stages see whole objects; the top-down path brings what they see to the fine maps (feature pyramid, Lin et al.
2017, arXiv:1612.03144). A position encoding is added at the end, because nothing else in a convolutional
network says where a pixel is, and boxes need to know.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.layers.positions import sine_of_map


class ConvNet(nn.Module):
    """The trunk; `channels` describes its three output maps, fine to coarse."""

    def __init__(
        self, stem_width: int, widths: tuple[int, ...], blocks: tuple[int, ...], pyramid_width: int
    ) -> None:
        super().__init__()
        self.channels = (pyramid_width,) * 3
        self.stem = conv_norm(3, stem_width, kernel=3, stride=2)
        sizes = [stem_width, *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(a, b, stride=2), *(ResidualBlock(b, b) for _ in range(count - 1)))
            for a, b, count in zip(sizes, sizes[1:], blocks, strict=False)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, pyramid_width, 1) for width in widths)
        self.position = nn.Conv2d(pyramid_width, pyramid_width, 1)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(pixels))
        top_down: list[Tensor] = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            top_down.append(lateral(x))  # strides 4, 8, 16, 32
        for i in (2, 1, 0):
            top_down[i] = top_down[i] + F.interpolate(top_down[i + 1], scale_factor=2.0, mode="nearest")
        return [self._with_position(level) for level in top_down[:3]]

    def _with_position(self, level: Tensor) -> Tensor:
        table = sine_of_map(level.shape[2], level.shape[3], level.shape[1], level.device)
        return level + self.position(table[None].to(level.dtype))


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
