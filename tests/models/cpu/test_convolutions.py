"""Folded and laid out for a CPU, a trunk gives what it gave, and goes on doing so when its weights change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from conceptseg.models.cpu.convolutions import lies_innermost
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.vision.timm_trunk import TimmTrunk


def trunk() -> TimmTrunk:
    """With batch norms that do something."""
    torch.manual_seed(3)
    made = TimmTrunk("efficientnet_lite0", pyramid_width=16).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made


def fast(plain: TimmTrunk) -> TimmTrunk:
    quick = copy.deepcopy(plain)
    fast_on_cpu(quick)
    return quick


PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def same(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_maps_are_the_same_and_their_channels_lie_together() -> None:
    plain = trunk()
    quick = fast(plain)
    with torch.inference_mode():
        maps = quick(PIXELS)
        same(maps, plain(PIXELS))
    assert all(lies_innermost(level) for level in maps)


@pytest.mark.parametrize("name", ["conv_pw.weight", "bn1.weight", "bn2.running_var"])
def test_a_weight_that_changes_is_folded_anew(name: str) -> None:
    plain = trunk()
    quick = fast(plain)
    with torch.no_grad():
        before = quick(PIXELS)
        for network in (plain, quick):
            network.network.blocks[3][1].state_dict()[name].mul_(20)
        same(quick(PIXELS), plain(PIXELS))
        assert not torch.allclose(before[2], quick(PIXELS)[2], atol=1e-3)


def test_what_is_trained_runs_as_the_plain_one_does() -> None:
    plain = trunk()
    quick = fast(plain)
    for network in (plain, quick):
        network.train()
        sum(level.sum() for level in network(PIXELS)).backward()
    stem = quick.network.conv_stem.weight.grad
    torch.testing.assert_close(stem, plain.network.conv_stem.weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(quick.network.bn1.running_mean, plain.network.bn1.running_mean)


def test_the_names_of_the_weights_stay() -> None:
    plain = trunk()
    assert list(fast(plain).state_dict()) == list(plain.state_dict())
