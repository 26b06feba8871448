"""What we use of other packages that they do not promise to keep; all of it is here.

Each says on which versions it was tried, and what happens where it is gone. Nothing is imported before it is
needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from conceptseg.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor


def cpu_capabilities() -> Mapping[str, bool]:
    """Which of `amx_bf16` and `avx512_bf16` this processor has, among whatever else torch says.

    Public after torch 2.9 (`torch.cpu.get_capabilities`, tried on 2.14.1); in 2.9 private functions. Without
    either a processor counts as one that has none: large models then run in float32.
    """
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    names = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
    return {kind: bool(getattr(torch.cpu, name, bool)()) for kind, name in names.items()}


def state_of(tensor: Tensor) -> tuple[int, int]:
    """What differs after a tensor's values have changed: where they lie, and how often they were written to.

    `Tensor._version`, which autograd's notes describe, tried on torch 2.14.1. A tensor made in inference mode
    counts no writes: only another one in its place is noticed.
    """
    return tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


def can_pack() -> bool:
    """Whether this processor multiplies in bfloat16, and torch says how weights are laid out for it.

    Operators that torch makes for its own compiler, tried on 2.14.1. Without them weights stay as they
    are, and every product lays them out anew (docs/speed.md, "Weights laid out once").
    """
    import torch

    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    known = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed_weight(weight: Tensor, rows: int) -> Tensor:
    """A weight (outputs, inputs) in the layout for products of so many rows; see `can_pack`."""
    import torch

    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    """`torch.nn.functional.linear` with a packed weight, and what follows it; see `can_pack`.

    Args:
        x: (..., inputs), bfloat16.
        packed: of `packed_weight`.
        bias: (outputs,), or None.
        then: "none", "relu" or "gelu", computed on the sums before they are rounded.
    """
    y: Tensor = packed_operator()(x, packed, bias, then, [], "none" if then == "gelu" else "")
    return y


def packed_operator() -> Any:
    """The operator behind `packed_product`, for those who count work by operator."""
    import torch

    return torch.ops.mkldnn._linear_pointwise


def what_would_run(error: Exception) -> str | None:
    """The function that a pickle names and `torch.load(weights_only=True)` refused, from its message.

    Tried on torch 2.14.1. Where the message has other words, the file is refused all the same, and
    called damaged.
    """
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    return None if asked is None else asked[1]


def timm_blocks() -> tuple[type[Any], type[Any]]:
    """EfficientViT's linear attention and TinyViT's block, whose parts `vision/student.py` exchanges.

    Modules of single models, tried on timm 1.0.15 and 1.0.31.

    Raises:
        MissingDependencyError: this timm has them no longer, and no student can be built.
    """
    import timm

    try:
        from timm.models.efficientvit_mit import LiteMLA
        from timm.models.tiny_vit import TinyVitBlock
    except ImportError as error:
        raise MissingDependencyError(
            f'EfficientSAM3\'s encoders need an older timm than {timm.__version__}: pip install "timm<1.1"'
        ) from error
    return LiteMLA, TinyVitBlock


def usage_error() -> type[Exception]:
    """What Typer raises for a wrong command line.

    Its own copy of click moved between versions; the class just below Exception, of which BadParameter is
    one, did not. Tried on typer 0.29.2. If that class came to stand elsewhere, a wrong command line
    would end in a traceback.
    """
    import typer

    ancestors = typer.BadParameter.__mro__
    return cast(type[Exception], ancestors[ancestors.index(Exception) - 1])


def hub_failures(errors: Any) -> tuple[type[Exception], ...]:
    """What a call of huggingface_hub may raise when nobody answers, given its public `errors`.

    Its own errors derive from those of the HTTP library that it uses, which was another in each of its major
    versions. Tried on 2.4.0. If they no longer did, a broken connection would end in a traceback.
    """
    return tuple(base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
