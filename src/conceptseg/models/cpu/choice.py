"""Which attention a processor is fastest at: a table of what was measured, by instruction set.

The figures and how they were made are in `docs/decisions/cpu-attention.md`. `CONCEPTSEG_CPU_ATTENTION`
chooses otherwise for answers; so does the argument of `swap.fast_on_cpu`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from conceptseg.errors import OptionError
from conceptseg.unstable import cpu_capabilities

AttentionKernel: TypeAlias = Literal["blocks", "fused"]  # plain products in blocks, or torch's own
VARIABLE = "CONCEPTSEG_CPU_ATTENTION"


@dataclass(frozen=True)
class AttentionChoice:
    """The faster kernel for each use."""

    asking: AttentionKernel  # bfloat16 without gradient; float32 is torch's everywhere
    training_bfloat16: AttentionKernel  # with gradient, on small images
    training_float32: AttentionKernel


# From the top: the first whose instructions the processor has.
CHOICES = {
    "amx_bf16": AttentionChoice("fused", "blocks", "fused"),  # Intel since Sapphire Rapids
    "avx512_bf16": AttentionChoice("blocks", "blocks", "blocks"),  # AMD since Zen 4
}
OTHERWISE = AttentionChoice("blocks", "blocks", "blocks")


def instruction_set() -> str | None:
    """The first instruction set of the table that this processor has; None: it multiplies in float32."""
    capabilities = cpu_capabilities()
    return next((name for name in CHOICES if capabilities.get(name)), None)


def choose_attention(asking: AttentionKernel | None = None) -> AttentionChoice:
    """What to use on this processor.

    Args:
        asking: "blocks" or "fused", whatever the table says; None: what the environment or the table says.

    Raises:
        OptionError: neither, or the environment variable is neither.
    """
    chosen = CHOICES.get(instruction_set() or "", OTHERWISE)
    wanted = asking or os.environ.get(VARIABLE) or chosen.asking
    if wanted not in get_args(AttentionKernel):
        where = "attention" if asking else VARIABLE
        raise OptionError(f"{where} is {wanted!r}; choose blocks or fused")
    return AttentionChoice(
        wanted,  # type: ignore[arg-type]  # checked
        chosen.training_bfloat16,
        chosen.training_float32,
    )
