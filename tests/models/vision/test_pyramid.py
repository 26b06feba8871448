from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import conceptseg as cs
from conceptseg.checkpoints.fingerprint import model_fingerprint
from conceptseg.errors import ConfigError
from conceptseg.models.build import build_detector, build_vision_encoder
from conceptseg.models.config import ConvNetConfig, TimmConfig
from conceptseg.models.vision.efficientnet_lite import BLOCKS, WIDTHS, EfficientNetLite0
from conceptseg.models.vision.pyramid import PyramidTrunk
from conceptseg.models.vision.timm_trunk import build_stages

SMALL = {
    "convnet": ConvNetConfig(stem_width=8, widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), pyramid_width=16),
    "timm": TimmConfig(network="test_efficientnet", pyramid_width=16),
}


@pytest.fixture(params=SMALL)
def trunk(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build_vision_encoder(SMALL[request.param]).eval()


def test_three_maps_at_a_quarter_an_eighth_and_a_sixteenth(trunk: nn.Module) -> None:
    maps = trunk(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 16, 24), (2, 16, 8, 12), (2, 16, 4, 6)]
    assert trunk.channels == (16, 16, 16)


def test_the_coarsest_stage_reaches_the_finest_map(trunk: nn.Module) -> None:
    """What stands at one corner is seen at the other through the top-down path, and only through it."""
    assert isinstance(trunk, PyramidTrunk)
    stages = [stage.detach() for stage in trunk.bottom_up(torch.rand(1, 3, 64, 64))]
    stages[-1].requires_grad_(True)
    trunk.bottom_up = lambda pixels: stages  # type: ignore[method-assign]
    finest: Tensor = trunk(torch.empty(0))[0]
    finest[..., 0, 0].sum().backward()
    assert stages[-1].grad is not None and stages[-1].grad[..., 0, 0].abs().sum() > 0


def test_a_map_says_where_a_pixel_is(trunk: nn.Module) -> None:
    level = trunk(torch.zeros(1, 3, 64, 64))[0]
    assert not torch.allclose(level[..., 7, 7], level[..., 8, 9])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_of_mine", "does not have"),
        ("mlp_mixer_doll", "does not have"),
        ("mixer_s32_224", "feature pyramid|strides"),
        ("vit_tiny_patch16_224", "feature pyramid|strides"),
    ],
)
def test_a_network_without_the_four_maps_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_stages(name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "efficientnet_lite0"])
def test_networks_of_several_families_give_the_four_maps(name: str) -> None:
    network, widths = build_stages(name)
    with torch.no_grad():
        maps = network.eval()(torch.rand(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == list(widths)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]


def test_the_trunk_of_nano_is_that_of_timm_without_timm() -> None:
    """The same names in the same order, and the same maps from the same weights."""
    theirs, widths = build_stages("efficientnet_lite0")
    ours = EfficientNetLite0()
    assert list(ours.state_dict()) == list(theirs.state_dict()) and widths == WIDTHS
    state = {
        name: torch.rand_like(value) + 0.5 if name.endswith("running_var") else value
        for name, value in theirs.state_dict().items()
    }
    for network in (ours, theirs):
        network.load_state_dict(state)
    pixels = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        for a, b in zip(ours.eval()(pixels), theirs.eval()(pixels), strict=True):
            torch.testing.assert_close(a, b)


def test_a_trunk_with_fewer_blocks_keeps_the_first_of_each_stage() -> None:
    """By name, so that it takes the weights of the whole one; what is left out only added to its input."""
    torch.manual_seed(0)
    whole, shorter = EfficientNetLite0(), EfficientNetLite0((1, 2, 1, 3, 3, 1, 1))
    missing, beyond = shorter.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert {".".join(name.split(".")[:3]) for name in beyond} == {
        "blocks.2.1", "blocks.5.1", "blocks.5.2", "blocks.5.3",
    }  # fmt: skip
    for stage, blocks in ((2, (1,)), (5, (1, 2, 3))):
        for number in blocks:
            whole.blocks[stage][number].bn3.weight.data.zero_()  # they add nothing
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(shorter.eval()(pixels), whole.eval()(pixels), strict=True):
            torch.testing.assert_close(a, b)


def test_nano_has_the_fingerprint_from_before_there_was_a_choice_of_blocks() -> None:
    """What was made by it, examples above all, goes on belonging to it."""
    recorded = Path(__file__).parents[3] / "benchmarks" / "results" / "photograph_splits.json"
    assert cs.load("nano").fingerprint == json.loads(recorded.read_text())["fingerprint"]


def test_the_choice_of_blocks_is_part_of_a_fingerprint() -> None:
    nano = cs.load("nano").config.architecture

    def fingerprint(blocks: tuple[int, ...]) -> str:
        torch.manual_seed(0)
        vision = dataclasses.replace(nano.vision, blocks=blocks)
        return model_fingerprint(build_detector(dataclasses.replace(nano, vision=vision)))

    assert fingerprint(BLOCKS) != fingerprint(())


@pytest.mark.parametrize(
    ("network", "blocks"),
    [("efficientnet_lite0", (1, 2)), ("efficientnet_lite0", (1, 2, 2, 3, 3, 5, 1)), ("resnet18", (1,) * 7)],
)
def test_blocks_that_a_network_does_not_have_are_refused(network: str, blocks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="vision.blocks"):
        build_vision_encoder(TimmConfig(network=network, blocks=blocks))
