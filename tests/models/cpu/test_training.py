from __future__ import annotations

import torch
from torch import nn

from conceptseg.models.cpu.training import DepthwiseInFloat32


def test_depthwise_convolutions_are_computed_in_float32_and_no_others() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    dense = nn.Conv2d(8, 8, 3)
    x = torch.randn(2, 8, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), DepthwiseInFloat32():
        exact, rounded = depthwise(x), dense(x)
    assert exact.dtype == rounded.dtype == torch.bfloat16
    assert torch.equal(exact, depthwise(x.float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rounded, dense(x))


def test_gradients_reach_weights_and_input() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=4)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), DepthwiseInFloat32():
        conv(x).float().sum().backward()
    assert x.grad is not None and conv.weight.grad is not None and conv.weight.grad.abs().sum() > 0


def test_without_autocast_nothing_changes() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=4).double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    with DepthwiseInFloat32():
        assert conv(x).dtype == torch.float64
