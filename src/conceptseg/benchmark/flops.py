"""How much there is to compute, and how fast this machine multiplies matrices."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conceptseg.segmenter import Segmenter
from conceptseg.unstable import can_pack, packed_operator

SIDE = 1024  # of the square matrices that the peak is measured with


def count_flops(segmenter: Segmenter, image: Path, phrase: str, threshold: float = 0.5) -> dict[str, int]:
    """Floating-point operations that answering one phrase on one image takes, by stage, as torch counts them.

    Matrix products, convolutions and attention; a multiplication and an addition are two. What is not done
    is not counted: for a phrase that finds nothing no pixels are decoded.
    """
    detector = segmenter.detector
    # Attention is counted where it is done by plain products; fused forms differ from device to device.
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _frozen(detector),
        FlopCounterMode(display=False, custom_mapping=_packed_products()) as counter,
    ):
        segmenter.segment(image, text=phrase, threshold=threshold)
    counts = counter.get_flop_counts()

    def of(*parts: nn.Module) -> int:
        return sum(sum(counts.get(type(part).__name__, {}).values()) for part in parts)

    stages = {
        "vision": of(detector.vision_encoder, detector.neck),
        "text": of(detector.text_encoder),
        "exemplar": of(detector.exemplar_encoder),
        "fusion": of(detector.fusion_encoder),
        "decoder": of(detector.decoder),
    }
    return stages | {"masks": counter.get_total_flops() - sum(stages.values())}


def _packed_products() -> dict[Any, Any]:
    """How to count products with packed weights, which torch does not know of."""

    def count(x: Sequence[int], weight: Sequence[int], *rest: Any, **kept: Any) -> int:  # of shapes
        return 2 * math.prod(x) * weight[0]

    return {packed_operator(): count} if can_pack() else {}


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """The counter follows gradients of whatever asks for them, even where none are computed."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def matrix_peak(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Floating-point operations a second of the fastest of a few products of square matrices."""
    a = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(repeats + 1):  # the first one also sets things up
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
