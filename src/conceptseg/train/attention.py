"""Which attention kernels a training step runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from conceptseg.data.batch import Batch

# Pixels. At 192 the plain kernels win by a tenth; at 256 and 320 the two are level, and plain ones take more
# memory.
PLAIN_ATTENTION_SIDE = 192


@contextlib.contextmanager
def training_attention(batch: Batch) -> Iterator[None]:
    """On a CPU the plain kernels train up to three times faster than the fused ones on small images.

    They would compute in float32 whatever their input; in the step's own precision, as the fused ones do, a
    step of nano in bfloat16 takes a quarter less time.
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
