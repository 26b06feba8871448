"""Low-rank adaptation (LoRA): tune the attention of a large model by a few small matrices.

A projection `W` of attention is frozen and becomes `W + scale * up @ down`; only `up` and `down` are trained,
so that gradients, the optimiser's averages and what a checkpoint adds are small. Query, key and value get a
pair each, though they are stored as one matrix. Before a model is saved the product is added to `W`: the
result is a model like any other, with the same answers. Source: Hu et al. 2021, arXiv:2106.09685.

Our attention reads its matrices itself instead of calling a linear layer for each, hence a parametrisation of
the matrix: `torch.nn.utils.parametrize` puts `LowRank` where the parameter was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from conceptseg.errors import ConfigError
from conceptseg.models.detector import Detector
from conceptseg.models.layers.attention import Attention
from conceptseg.models.vision.vit import RotaryAttention
from conceptseg.train.run_config import LoraConfig
from conceptseg.train.task import in_part


class LowRank(nn.Module):
    """A frozen matrix -> the tuned one; the same at the start.

    Args:
        stacked: matrices that lie in it one below the other: 3 for query, key and value.
        outputs: rows of each of them.
        inputs: columns.
        rank: of what is added to each.
        scale: factor on what is added.
    """

    def __init__(self, stacked: int, outputs: int, inputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.empty(stacked, rank, inputs))
        self.up = nn.Parameter(torch.zeros(stacked, outputs, rank))
        nn.init.kaiming_uniform_(self.down.flatten(0, 1), a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:  # (stacked * outputs, inputs)
        return weight + self.scale * (self.up @ self.down).flatten(0, 1)


def add_lora(detector: Detector, config: LoraConfig) -> list[str]:
    """Tune the attention of some parts by low rank; their matrices are frozen, all else stays as it is.

    Args:
        detector: changed in place. A checkpoint of it fits a detector to which the same was added.
        config: which parts, and of which rank.

    Returns:
        Names of the matrices, as the model file calls them.

    Raises:
        ConfigError: no such part, none of them has attention, or the rank is larger than a matrix.
    """
    known = [name for name, _ in detector.named_parameters()]
    for part in config.parts:
        if not any(in_part(name, part) for name in known):
            parts = ", ".join(name for name, _ in detector.named_children())
            raise ConfigError(
                f"lora.parts names {part!r}, which this model does not have; its parts: {parts}"
            )
    chosen = [
        found for found in _projections(detector) if any(in_part(found[0], part) for part in config.parts)
    ]
    if not chosen:
        raise ConfigError(
            f"low-rank tuning is of attention, and this model has none in {', '.join(config.parts)}; "
            "name other lora.parts"
        )
    for name, module, parameter, stacked in chosen:
        weight = getattr(module, parameter)
        outputs, inputs = weight.shape[0] // stacked, weight.shape[1]
        if config.rank > min(outputs, inputs):
            raise ConfigError(
                f"lora.rank = {config.rank} is more than {name} has ({min(outputs, inputs)}); "
                "8 to 64 are usual"
            )
        weight.requires_grad_(False)
        low_rank = LowRank(stacked, outputs, inputs, config.rank, config.scale).to(weight)
        parametrize.register_parametrization(module, parameter, low_rank)
    return [name for name, *_ in chosen]


def merge_lora(detector: Detector) -> None:
    """Make what was tuned part of the weights, under the names they had before; else does nothing."""
    for module in list(detector.modules()):
        if not parametrize.is_parametrized(module):
            continue
        for name in list(module.parametrizations):  # type: ignore[arg-type]  # a ModuleDict
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _projections(detector: Detector) -> Iterator[tuple[str, nn.Module, str, int]]:
    """(full name, module that holds it, its name there, matrices stacked in it) of all attention."""
    for name, module in detector.named_modules():
        if isinstance(module, Attention):
            yield f"{name}.in_proj_weight", module, "in_proj_weight", 3
            yield f"{name}.out_proj.weight", module.out_proj, "weight", 1
        elif isinstance(module, RotaryAttention):
            yield f"{name}.qkv.weight", module.qkv, "weight", 3
            yield f"{name}.proj.weight", module.proj, "weight", 1
