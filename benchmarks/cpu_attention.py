"""How fast attention is on this CPU: our products in blocks and in parts against torch's own kernels.

    OMP_NUM_THREADS=1 python benchmarks/cpu_attention.py

Prints the two tables of docs/decisions/cpu-attention.md, in processor milliseconds: medians of a few rounds
in which the candidates take turns, after one that is not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from conceptseg.models.cpu.attend import attend_in_blocks, attend_in_parts

ROUNDS = 7
# Name -> batch, heads, queries, keys, width of a head, with a bias.
ASKING = {
    "vision encoder, 9 windows": (9, 16, 576, 576, 64, False),
    "vision encoder, whole image": (1, 16, 5184, 5184, 64, False),
    "fusion encoder": (1, 8, 5184, 5184, 32, False),
    "decoder, with box bias": (1, 8, 201, 5184, 32, True),
    "fusion encoder of nano, 8 phrases": (8, 4, 400, 400, 32, False),
}
TRAINING = (144, 400, 784)  # tokens of 20 pairs, 4 heads of 32


def main() -> None:
    torch.manual_seed(0)
    print("| attention | blocks | torch's |\n| --- | ---: | ---: |")
    for name, (batch, heads, queries, keys, width, biased) in ASKING.items():
        q, k, v = (_heads(batch, length, heads, width, torch.bfloat16) for length in (queries, keys, keys))
        bias = torch.randn(batch, heads, queries, keys).bfloat16() if biased else None
        with torch.no_grad():
            took = _by_turns(
                {
                    "blocks": lambda q=q, k=k, v=v, bias=bias: attend_in_blocks(q, k, v, bias=bias),
                    "fused": lambda q=q, k=k, v=v, bias=bias: F.scaled_dot_product_attention(q, k, v, bias),
                }
            )
        print(f"| {name} | {took['blocks']:.1f} | {took['fused']:.1f} |")
    print("\n| tokens | number type | in parts | torch's plain | torch's fused |")
    print("| --- | --- | ---: | ---: | ---: |")
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # of CPUs, too; as training has it
    for dtype in (torch.bfloat16, torch.float32):
        for tokens in TRAINING:
            q, k, v = (_heads(20, tokens, 4, 32, dtype).requires_grad_() for _ in range(3))
            took = _by_turns(
                {
                    "parts": lambda q=q, k=k, v=v: attend_in_parts(q, k, v).sum().backward(),
                    "plain": lambda q=q, k=k, v=v: _plain(q, k, v).sum().backward(),
                    "fused": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v).sum().backward(),
                }
            )
            kind = str(dtype).removeprefix("torch.")
            print(f"| {tokens} | {kind} | {took['parts']:.0f} | {took['plain']:.0f} | {took['fused']:.0f} |")


def _heads(batch: int, tokens: int, heads: int, width: int, dtype: torch.dtype) -> Tensor:
    """As projections leave them: heads after tokens."""
    return torch.randn(batch, tokens, heads, width).to(dtype).transpose(1, 2)


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)


def _by_turns(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median processor milliseconds of each."""
    took: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS + 1):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            took[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(times[1:]) for name, times in took.items()}


if __name__ == "__main__":
    main()
