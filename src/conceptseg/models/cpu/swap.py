"""Puts the fast forms of a network's modules in the place of the plain ones."""

from __future__ import annotations

from torch import nn

from conceptseg.models.cpu.choice import AttentionKernel, choose
from conceptseg.models.cpu.modules import FAST, FastAttention, FastRotaryAttention, TrunkInRows
from conceptseg.models.cpu.packing import pack
from conceptseg.models.cpu.rounding import is_rounded
from conceptseg.unstable import can_pack


def fast_on_cpu(
    network: nn.Module, attention: AttentionKernel | None = None, rows: int | None = None
) -> None:
    """Make a network, or a part of one, fast on a CPU; does nothing where its weights lie elsewhere.

    Weights, their names and every answer stay as they are, to rounding. What is exported, compiled or trained
    runs as the plain modules do (attention in a training step on a CPU excepted: `training_kernels`), so
    once is enough: after loading, and before anything is wrapped around the modules.

    Args:
        network: changed in place.
        attention: "blocks" or "fused"; None: what is faster on this processor, see `choice.py`.
        rows: tokens of a product in the vision trunk, or 0 for window by window; None: likewise.

    Raises:
        OptionError: there is no such kernel or number.
    """
    chosen = choose(attention, rows)
    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        return
    for module in network.modules():
        fast = FAST.get(type(module))
        if fast is not None:
            module.__class__ = fast  # a subclass without state of its own, so parameters and hooks stay
        if isinstance(module, (FastAttention, FastRotaryAttention, TrunkInRows)):
            module.asking = chosen.asking
        if isinstance(module, TrunkInRows):
            module.rows = chosen.rows
    if is_rounded(network) and can_pack():
        pack(network)
