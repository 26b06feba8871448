"""How much there is to compute, and how fast this machine multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conceptseg.images import load_image, model_input
from conceptseg.models.prompts import join_prompts
from conceptseg.segmenter import Segmenter

SIDE = 1024  # of the square matrices that the peak is measured with


def count_flops(segmenter: Segmenter, image: Path, phrase: str) -> dict[str, int]:
    """Floating-point operations of one phrase on one image by stage, as torch counts them.

    Matrix products, convolutions and attention; a multiplication and an addition are two.
    """
    detector, device = segmenter.detector, segmenter.device
    settings = segmenter.config.preprocessing
    pixels = model_input(load_image(image).pixels, segmenter.resolution, settings.mean, settings.std)[None]
    index = torch.zeros(1, dtype=torch.long, device=device)
    # Attention is counted where it is done by plain products; fused forms differ from device to device.
    with torch.no_grad(), segmenter.autocast(), sdpa_kernel(SDPBackend.MATH), _frozen(detector):
        with FlopCounterMode(display=False) as vision:
            features = detector.encode_images(pixels.to(device))
        with FlopCounterMode(display=False) as text:
            words = detector.encode_text(segmenter.tokenizer([phrase]).to(device))
        with FlopCounterMode(display=False) as exemplar:
            shown = detector.encode_exemplars(features, None, index)
        with FlopCounterMode(display=False) as rest:
            detector.detect(features, index, join_prompts(words, shown), with_masks=False)
    parts = rest.get_flop_counts()

    def of(name: str) -> int:
        return sum(sum(counts.values()) for key, counts in parts.items() if key.split(".")[-1:] == [name])

    fusion, decoder = of("FusionEncoder"), of("Decoder")
    return {
        "vision": vision.get_total_flops(),
        "text": text.get_total_flops(),
        "exemplar": exemplar.get_total_flops(),
        "fusion": fusion,
        "decoder": decoder,
        "masks": rest.get_total_flops() - fusion - decoder,
    }


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
