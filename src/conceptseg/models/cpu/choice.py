"""What a processor is fastest at: a table of what was measured, by instruction set.

The figures and how they were made are in `docs/decisions/cpu-attention.md` and `cpu-trunk.md`. For answers
`CONCEPTSEG_CPU_ATTENTION` and `CONCEPTSEG_CPU_ROWS` choose otherwise; so do the arguments of
`swap.fast_on_cpu`.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from conceptseg.errors import OptionError
from conceptseg.unstable import cpu_capabilities

AttentionKernel: TypeAlias = Literal["blocks", "fused"]  # plain products in blocks, or torch's own
VARIABLE = "CONCEPTSEG_CPU_ATTENTION"
ROWS_VARIABLE = "CONCEPTSEG_CPU_ROWS"


@dataclass(frozen=True)
class CpuChoice:
    """The fastest of what there is."""

    asking: AttentionKernel  # bfloat16 without gradient; float32 is torch's everywhere
    training_bfloat16: AttentionKernel  # with gradient, on small images
    training_float32: AttentionKernel
    rows: int  # tokens of a product in the vision trunk, in bfloat16; 0: block by block, window by window


# From the top: the first whose instructions the processor has.
CHOICES = {
    "amx_bf16": CpuChoice("fused", "blocks", "fused", rows=1728),  # Intel since Sapphire Rapids
    "avx512_bf16": CpuChoice("blocks", "blocks", "blocks", rows=0),  # AMD since Zen 4
}
OTHERWISE = CpuChoice("blocks", "blocks", "blocks", rows=0)


def instruction_set() -> str | None:
    """The first instruction set of the table that this processor has; None: it multiplies in float32."""
    capabilities = cpu_capabilities()
    return next((name for name in CHOICES if capabilities.get(name)), None)


def choose(asking: AttentionKernel | None = None, rows: int | None = None) -> CpuChoice:
    """What to use on this processor.

    Args:
        asking: "blocks" or "fused", whatever the table says; None: what the environment or the table says.
        rows: likewise; 0 or more.

    Raises:
        OptionError: an argument or environment variable is something else.
    """
    chosen = CHOICES.get(instruction_set() or "", OTHERWISE)
    kernel = asking or os.environ.get(VARIABLE) or chosen.asking
    if kernel not in get_args(AttentionKernel):
        where = "attention" if asking else VARIABLE
        raise OptionError(f"{where} is {kernel!r}; choose blocks or fused")
    count = str(os.environ.get(ROWS_VARIABLE) or chosen.rows) if rows is None else str(rows)
    if not count.isdecimal():
        where = ROWS_VARIABLE if rows is None else "rows"
        raise OptionError(f"{where} is {count!r}; give a number of tokens, or 0 for window by window")
    return dataclasses.replace(chosen, asking=kernel, rows=int(count))  # type: ignore[arg-type]  # checked
