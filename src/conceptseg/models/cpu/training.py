"""Which kernels a training step on a CPU runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from conceptseg.models.cpu.choice import choose

# Pixels. Above, attention weights that wait for the backward pass take too much memory.
LARGEST_SIDE = 320

_IN_PARTS = ContextVar("in_parts", default=False)


def trains_in_parts() -> bool:
    """Whether this thread is within a step that keeps attention weights for the backward pass."""
    return _IN_PARTS.get()


@contextlib.contextmanager
def training_kernels(pixels: Tensor, bfloat16: bool) -> Iterator[None]:
    """What trains fastest on a CPU; on another device than a CPU nothing changes.

    Args:
        pixels: (I, 3, H, W) of the step.
        bfloat16: whether the step computes in it, or in float32.
    """
    if pixels.device.type != "cpu":
        yield
        return
    chosen = choose()
    attention = chosen.training_bfloat16 if bfloat16 else chosen.training_float32
    with contextlib.ExitStack() as stack:
        stack.enter_context(DepthwiseInFloat32())
        if pixels.shape[-1] <= LARGEST_SIDE and attention == "blocks":
            stack.enter_context(_plain_attention())
        yield


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Plain products train up to three times as fast as torch's fused kernel on small images.

    Large attention goes in parts (`attend.py`), and torch's own plain kernel does the rest. That would
    compute in float32 whatever its input; in the step's own precision, as the fused one does, a step of nano
    in bfloat16 takes a quarter less time.
    """
    # Of CPUs, too, despite its name.
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    token = _IN_PARTS.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _IN_PARTS.reset(token)
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)


class DepthwiseInFloat32(TorchFunctionMode):
    """Depthwise convolutions in float32 where autocast would have them in bfloat16.

    A CPU trains them faster so: on an Intel Xeon with AMX, forward and backward of EfficientNet-Lite0 on 16
    images of 192 pixels took 1.42 s of one core in bfloat16, 0.94 s in float32 and 0.72 s with these alone in
    float32.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
        depthwise = func is F.conv2d and groups > 1 and groups == args[0].shape[1]
        if not depthwise or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        x, weight, *rest = args
        with torch.autocast("cpu", enabled=False):
            return func(x.float(), weight.float(), *rest, **kwargs).to(x.dtype)
