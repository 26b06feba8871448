"""Which attention kernels a training step runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from conceptseg.data.batch import Batch

# Pixels. Above, attention weights that wait for the backward pass take too much memory.
PLAIN_ATTENTION_SIDE = 320


@contextlib.contextmanager
def training_attention(batch: Batch) -> Iterator[None]:
    """On a CPU plain products train up to three times as fast as the fused kernel on small images.

    Where only plain kernels are allowed, `attend` takes large attention in parts, and torch's own plain
    kernel does the rest. That would compute in float32 whatever its input; in the step's own precision, as
    the fused one does, a step of nano in bfloat16 takes a quarter less time.
    """
    if batch.pixels.device.type != "cpu" or batch.pixels.shape[-1] > PLAIN_ATTENTION_SIDE:
        yield
        return
    # Of CPUs, too, despite its name.
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
