"""Any network of `timm` that gives maps at 1/4, 1/8, 1/16 and 1/32 of the image, under a top-down path.

Such a network has seen a million photographs before it is trained for anything here; one trained from nothing
on a few thousand has not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from conceptseg.errors import ConfigError
from conceptseg.models.vision.efficientnet_lite import BLOCKS, WIDTHS, EfficientNetLite0
from conceptseg.models.vision.pyramid import PyramidTrunk

STRIDES = (4, 8, 16, 32)


class TimmTrunk(PyramidTrunk):
    """The stages of a `timm` model; see `PyramidTrunk` for what becomes of them.

    Args:
        network: its name in `timm`.
        pyramid_width: channels of the three output maps.
        blocks: of each stage of a network that is written here, the first ones; empty: all.

    Raises:
        ConfigError: `timm` has no such network, or it has no map at one of the four strides; or the network
            cannot be had with so many blocks.
    """

    def __init__(self, network: str, pyramid_width: int, blocks: tuple[int, ...] = ()) -> None:
        model, widths = _own(network, blocks) or build_stages(network)
        super().__init__(widths, pyramid_width)
        self.network = model

    def bottom_up(self, pixels: Tensor) -> list[Tensor]:
        return list(self.network(pixels))


def _own(name: str, blocks: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]] | None:
    """A network that is written here too, with the same names and results: it needs no `timm`."""
    if name == "efficientnet_lite0":
        return EfficientNetLite0(blocks or BLOCKS), WIDTHS
    if blocks:
        raise ConfigError(f"vision.blocks is for efficientnet_lite0; {name} has as many as timm gives it")
    return None


def build_stages(name: str, pretrained: bool = False) -> tuple[nn.Module, tuple[int, ...]]:
    """A `timm` network that gives its maps at the four strides, and their channels.

    Args:
        name: of the network in `timm`.
        pretrained: with the weights that `timm` fetches for it; else fresh ones.

    Raises:
        ConfigError: no such network, or no map at one of the four strides.
    """
    import timm  # takes a second, which only those wait for who build such a trunk

    if not timm.is_model(name):
        raise ConfigError(f"vision.network is {name!r}, which timm {timm.__version__} does not have")
    try:
        probe = timm.create_model(name, pretrained=False, features_only=True)
    except (AttributeError, RuntimeError, ValueError) as error:  # as timm says that a family has no such maps
        raise ConfigError(f"vision.network {name!r} gives no feature pyramid: {error}") from error
    info: Any = probe.feature_info
    reductions = list(info.reduction())
    if not set(STRIDES) <= set(reductions):
        raise ConfigError(
            f"vision.network {name!r} gives maps at strides {', '.join(map(str, reductions))}; "
            "the pyramid needs 4, 8, 16 and 32"
        )
    # Of two maps with one stride the later one has read more.
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
    model: nn.Module = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=indices)
    return model, tuple(int(info.channels(i)) for i in indices)
