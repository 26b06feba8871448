"""From the trunk's map (or maps) to levels of width D, finest first."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.errors import ConfigError


class Neck(nn.Module):
    """Parallel branches, one per level: resample, 1 x 1, 3 x 3 convolution (ViTDet's simple feature pyramid).

    Args:
        channels: of each map that the trunk gives.
        width: D.
        scales: resolution of each level relative to the map it is made from: 4, 2, 1 or 0.5.
        drop_last: how many of the last levels nobody reads; their weights are kept because released files
            hold them, but they are not computed.
        per_level: True when the trunk gives one map per level, False when all levels come from its only map.
        normalise: bring every position to mean 0 and variance 1. What the fusion encoder reads of the prompt
            is added to these features; where they grow a hundred times larger, words go unheard.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        width: int,
        scales: tuple[float, ...],
        drop_last: int,
        per_level: bool,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        inputs = channels if per_level else channels * len(scales)
        if len(inputs) != len(scales):
            raise ConfigError(
                f"neck.scales has {len(scales)} levels, the vision encoder gives {len(channels)} maps"
            )
        self.per_level = per_level
        self.levels = len(scales) - drop_last
        self.branches = nn.ModuleList(
            NeckBranch(c, width, scale) for c, scale in zip(inputs, scales, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        if not self.per_level:
            maps = maps * len(self.branches)
        kept = list(zip(self.branches, maps, strict=True))[: self.levels]
        levels = [branch(x) for branch, x in kept]  # each (I, D, h, w)
        return [_over_channels(level) for level in levels] if self.normalise else levels


class NeckBranch(nn.Module):
    """One level."""

    def __init__(self, inputs: int, width: int, scale: float) -> None:
        super().__init__()
        self.resample, channels = _resampler(inputs, scale)
        self.conv_1x1 = nn.Conv2d(channels, width, 1)
        self.conv_3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_3x3(self.conv_1x1(self.resample(x)))


def _over_channels(level: Tensor) -> Tensor:
    """Layer norm of each position, without weights; (I, D, h, w) in and out."""
    last = level.permute(0, 2, 3, 1)  # (I, h, w, D)
    return F.layer_norm(last, last.shape[-1:]).permute(0, 3, 1, 2)


def _resampler(inputs: int, scale: float) -> tuple[nn.Module, int]:
    """The module that changes the resolution by `scale`, and the channels it leaves."""
    if scale == 4.0:
        first = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        return nn.Sequential(
            first, nn.GELU(), nn.ConvTranspose2d(inputs // 2, inputs // 4, 2, stride=2)
        ), inputs // 4
    if scale == 2.0:
        return nn.Sequential(nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)), inputs // 2
    if scale == 1.0:
        return nn.Identity(), inputs
    if scale == 0.5:
        return nn.MaxPool2d(2), inputs
    raise ConfigError(f"neck.scales holds {scale}; choose 4, 2, 1 or 0.5")
