"""How much there is to compute, and how fast this machine multiplies matrices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conceptseg.segmenter import Segmenter
from conceptseg.unstable import can_pack, packed_operator, packed_product, packed_weight

# Rows, inputs and outputs of the products that the peak is looked for in: squares, and the trunk of SAM 3.
PRODUCTS = ((1024, 1024, 1024), (2048, 2048, 2048), (1728, 1024, 3072), (5184, 1024, 1024))
LARGE_PRODUCT = (8192, 8192, 8192)  # smaller ones leave parts of a GPU without work


def count_flops(segmenter: Segmenter, image: Path, phrase: str, threshold: float = 0.5) -> dict[str, int]:
    """Floating-point operations that answering one phrase on one image takes, by stage, as torch counts them.

    Matrix products, convolutions and attention; a multiplication and an addition are two. What is not done
    is not counted: for a phrase that finds nothing no pixels are decoded.
    """
    detector = segmenter.detector
    with counting_flops(detector) as counter:
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


@contextmanager
def counting_flops(detector: nn.Module) -> Iterator[FlopCounterMode]:
    """Count what the network computes within the block; gradients are off."""
    # Attention is counted where it is done by plain products; fused forms differ from device to device.
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _frozen(detector),
        FlopCounterMode(display=False, custom_mapping=_packed_products()) as counter,
    ):
        yield counter


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
    """Floating-point operations a second of the fastest product of matrices, of several sizes and layouts.

    No single one will do: squares of 1024 reached 346 GFLOP/s in one run and 1,053 in the next.
    """
    sizes = (*PRODUCTS, LARGE_PRODUCT) if device.type == "cuda" else PRODUCTS
    return max(_rate(size, device, dtype, repeats) for size in sizes)


@torch.inference_mode()
def _rate(size: tuple[int, int, int], device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    rows, inputs, outputs = size
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype)
    turned = weight.t().contiguous()
    layouts: list[Callable[[], Tensor]] = [lambda: x @ turned, lambda: F.linear(x, weight)]
    if device.type == "cpu" and dtype == torch.bfloat16 and can_pack():
        packed = packed_weight(weight, rows)
        layouts.append(lambda: packed_product(x, packed, None))
    best = float("inf")
    for _ in range(repeats + 1):  # the first one also sets things up
        for multiply in layouts:
            start = time.perf_counter()
            multiply()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
    return 2 * rows * inputs * outputs / best
