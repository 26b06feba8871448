"""EfficientNet-Lite0, the trunk of `nano`, as `timm` computes it and with the names it gives its weights.

Written here so that the embedded model is there without importing `timm`, which takes longer than loading it.
Source: Tan & Le 2019, arXiv:1905.11946, without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.errors import ConfigError

STEM_WIDTH = 32
# kernel, stride of the first block, expansion, channels, blocks
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
GIVEN = (1, 2, 4, 6)  # the last stages at strides 4, 8, 16 and 32
WIDTHS = tuple(STAGES[stage][3] for stage in GIVEN)
BLOCKS = tuple(stage[4] for stage in STAGES)


class EfficientNetLite0(nn.Module):
    """pixels (I, 3, H, W) -> maps at 1/4, 1/8, 1/16 and 1/32 of the image, of `WIDTHS` channels.

    Args:
        blocks: of each stage; of a stage with fewer the last ones are missing, which only add to their input.

    Raises:
        ConfigError: a stage cannot have as many.
    """

    def __init__(self, blocks: tuple[int, ...] = BLOCKS) -> None:
        if len(blocks) != len(BLOCKS) or any(
            not 1 <= n <= most for n, most in zip(blocks, BLOCKS, strict=True)
        ):
            raise ConfigError(
                f"vision.blocks is {list(blocks)}; efficientnet_lite0 has at most {list(BLOCKS)}, "
                "and one of each stage at least"
            )
        super().__init__()
        self.conv_stem = nn.Conv2d(3, STEM_WIDTH, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        stages, inputs = [], STEM_WIDTH
        for count, (kernel, stride, expansion, outputs, _) in zip(blocks, STAGES, strict=True):
            stage: list[nn.Module] = []
            for number in range(count):
                step = stride if number == 0 else 1
                if expansion == 1:
                    stage.append(DepthwiseSeparable(inputs, outputs, kernel, step))
                else:
                    stage.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.stem(pixels)
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in GIVEN:
                maps.append(x)
        return maps

    def stem(self, pixels: Tensor) -> Tensor:
        """(I, 3, H, W) -> (I, 32, H/2, W/2)."""
        return F.relu6(self.bn1(self.conv_stem(pixels)))


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution, then one over channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(inputs, kernel, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        return x + y if self.adds else y


class InvertedResidual(nn.Module):
    """More channels, a depthwise convolution, fewer channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv_dw = _depthwise(width, kernel, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv_pwl = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = self.bn3(self.conv_pwl(F.relu6(self.bn2(self.conv_dw(y)))))
        return x + y if self.adds else y


def _depthwise(width: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, kernel, stride, padding=kernel // 2, groups=width, bias=False)
