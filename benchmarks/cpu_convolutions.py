"""How fast the trunk of nano is on this CPU: as it is written, and folded with its channels innermost.

    OMP_NUM_THREADS=1 python benchmarks/cpu_convolutions.py

Prints the table of docs/decisions/cpu-convolutions.md, in processor milliseconds: medians of rounds in which
both take turns, after two that are not counted. Errors are against the plain maps in float32: root mean
square of the difference over that of the map, of the worst of the four.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import conceptseg as cs
from conceptseg.models.cpu.convolutions import FoldedDepthwiseSeparable, FoldedInvertedResidual, FoldedTrunk
from conceptseg.models.vision.efficientnet_lite import (
    DepthwiseSeparable,
    EfficientNetLite0,
    InvertedResidual,
)
from conceptseg.models.vision.timm_trunk import TimmTrunk

ROUNDS = 15
SIDES = (256, 320)
PLAIN = {
    FoldedTrunk: EfficientNetLite0,
    FoldedDepthwiseSeparable: DepthwiseSeparable,
    FoldedInvertedResidual: InvertedResidual,
}


@torch.inference_mode()
def main() -> None:
    print(
        "| number type | pixels | plain | folded | error of plain | of folded |\n" + "| --- |" + " ---: |" * 5
    )
    trunk = cs.load("nano", device="cpu", dtype="float32").detector.vision_encoder
    assert isinstance(trunk, TimmTrunk)
    trunk_in_float32 = as_written(trunk.network)
    for dtype in (torch.float32, torch.bfloat16):
        quick = copy.deepcopy(trunk.network).to(dtype)
        plain = as_written(quick)
        for side in SIDES:
            pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
            took: dict[str, list[float]] = {"plain": [], "folded": []}
            for number in range(ROUNDS + 2):
                for name, network in (("plain", plain), ("folded", quick)):
                    began = time.process_time()
                    network(pixels)
                    if number > 1:
                        took[name].append(1e3 * (time.process_time() - began))
            exact = trunk_in_float32(pixels.float())
            errors = " | ".join(f"{apart(network(pixels), exact):.1e}" for network in (plain, quick))
            times = " | ".join(f"{statistics.median(values):.1f}" for values in took.values())
            print(f"| {str(dtype).removeprefix('torch.')} | {side} | {times} | {errors} |")


def apart(maps: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    return max(float((a.float() - b).norm() / b.norm()) for a, b in zip(maps, exact, strict=True))


def as_written(network: nn.Module) -> nn.Module:
    """A copy without what makes it fast."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return plain


if __name__ == "__main__":
    main()
