"""Rounded weights, laid out once as the processor's matrix units read them.

oneDNN lays a weight out anew at every product: a tenth to a quarter of the time of one over the 576 tokens of
a window. Packed once, a weight takes the same memory and gives the same products.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from conceptseg.models.cpu.rounding import ROUNDED
from conceptseg.unstable import packed_product, packed_weight

FEWEST_WEIGHTS = 2**18  # of a matrix; what smaller ones would gain cannot be measured
ROWS = 576  # that the layout is chosen for: a window of SAM 3. Others work, and gain about as much


class PackedLinear(nn.Module):
    """A linear layer for inference in bfloat16 on a CPU; saved, it is an ordinary one.

    Args:
        weight: (outputs, inputs), bfloat16.
        bias: (outputs,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        packed = packed_weight(weight.detach(), ROWS)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor, then: str = "none") -> Tensor:  # (..., inputs) -> (..., outputs)
        """The product, and "relu" or "gelu" of it, which then takes no pass over memory of its own."""
        return packed_product(x.to(ROUNDED), self.weight, self.bias, then)

    def __reduce__(self) -> tuple[Any, ...]:  # a packed tensor can be neither copied nor pickled
        return PackedLinear, (self.weight.to_dense(), self.bias)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight.to_dense()


def pack(module: nn.Module) -> None:
    """Pack every large rounded matrix of a network that will only be asked; each is freed before the next."""
    for name, child in module.named_children():
        if not isinstance(child, nn.Linear):
            pack(child)
        elif child.weight.dtype == ROUNDED and child.weight.numel() >= FEWEST_WEIGHTS:
            setattr(module, name, PackedLinear(child.weight, child.bias))
