"""What we use of other packages that they do not promise to keep; everything of that kind is here.

Each entry says which versions it was tried on, and what happens where it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def cpu_capabilities() -> Mapping[str, bool]:
    """Which of `amx_bf16` and `avx512_bf16` this processor has, among whatever else torch says.

    Public since torch 2.10 (`torch.cpu.get_capabilities`); before, from private functions of torch 2.9.
    Without either a processor counts as one that has none, and runs in float32.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    names = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
    return {kind: bool(getattr(torch.cpu, name, bool)()) for kind, name in names.items()}
