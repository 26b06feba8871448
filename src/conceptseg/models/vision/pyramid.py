"""A trunk with a top-down path: what coarse stages know of whole objects, brought to the fine maps.

pixels (I, 3, H, W) -> maps at 1/4, 1/8 and 1/16 of the image, of `pyramid_width` channels each (Lin et al.
2017, arXiv:1612.03144). A position encoding is added at the end, because nothing else in a
convolutional network says where a pixel is, and boxes need to know.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.layers.positions import sine_of_map


class PyramidTrunk(nn.Module):
    """Any network of four stages, at strides 4, 8, 16 and 32, that says what they give (`bottom_up`).

    `channels` describes the three output maps, fine to coarse.
    """

    def __init__(self, stage_widths: tuple[int, ...], pyramid_width: int) -> None:
        super().__init__()
        self.channels = (pyramid_width,) * 3
        self.laterals = nn.ModuleList(nn.Conv2d(width, pyramid_width, 1) for width in stage_widths)
        self.position = nn.Conv2d(pyramid_width, pyramid_width, 1)

    def bottom_up(self, pixels: Tensor) -> list[Tensor]:
        """(I, 3, H, W) -> the maps of the stages, at strides 4, 8, 16 and 32."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> list[Tensor]:
        stages = self.bottom_up(pixels)
        top_down = [lateral(x) for lateral, x in zip(self.laterals, stages, strict=True)]
        for i in (2, 1, 0):
            top_down[i] = top_down[i] + F.interpolate(top_down[i + 1], scale_factor=2.0, mode="nearest")
        return [self.with_position(level) for level in top_down[:3]]

    def with_position(self, level: Tensor) -> Tensor:
        """A map (I, C, h, w) and where each of its pixels is."""
        table = sine_of_map(level.shape[2], level.shape[3], level.shape[1], level.device)
        return level + self.position(table[None].to(level.dtype))
