"""How fast the vision trunk is on this CPU by how many tokens go into a product, and what int8 would bring.

    OMP_NUM_THREADS=1 python benchmarks/cpu_trunk.py trunk
    OMP_NUM_THREADS=1 python benchmarks/cpu_trunk.py products

Two windowed blocks and one over the whole image of SAM 3's trunk, random weights, 1008 pixels. Prints the
tables of docs/decisions/cpu-trunk.md: least and median milliseconds of a few rounds in which the candidates
take turns, after one that is not counted; processor time, and for `trunk` wall time, which more threads
shorten. `trunk` takes about a minute and a half of one core, `products` a quarter of that.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.cpu import trunk as cpu_trunk
from conceptseg.models.cpu.modules import TrunkInRows
from conceptseg.models.cpu.packing import ROWS
from conceptseg.models.cpu.rounding import roundable
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.vision.vit import VisionTransformer
from conceptseg.unstable import packed_product, packed_weight

SIZE, WIDTH, MLP = 72, 1024, 4736  # tokens per side, channels, hidden channels
# Tokens of a product, and of a piece of what goes through a norm, an addition or a turn, for each thread.
WAYS = ((0, 0), (576, 96), (1728, 96), (1728, 192), (1728, 576), (5184, 96))
SHAPES = {
    "qkv": (WIDTH, 3 * WIDTH),
    "proj": (WIDTH, WIDTH),
    "mlp, first": (WIDTH, MLP),
    "mlp, second": (MLP, WIDTH),
}


def trunk(rounds: int) -> None:
    plain = VisionTransformer(
        patch_size=14,
        width=WIDTH,
        depth=3,
        heads=16,
        mlp_width=MLP,
        window=24,
        global_blocks=(2,),
        position_grid=24,
        rope_theta=10000.0,
        drop_path=0.0,
        norm_eps=1e-5,
    ).eval()
    x = torch.randn(1, SIZE, SIZE, WIDTH)
    form = _rounded(plain)

    def run(rows: int, piece: int) -> Tensor:
        form.rows, cpu_trunk.PIECE = rows, piece
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return form.run_blocks(x)

    with torch.inference_mode():
        exact = plain.run_blocks(x)
    errors = {ways: float((run(*ways) - exact).norm() / exact.norm()) for ways in WAYS}
    took = _by_turns({ways: lambda ways=ways: run(*ways) for ways in WAYS}, rounds)
    print("| tokens of a product | of a piece | processor, least | median | wall, least | median | error |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for ways in WAYS:
        (rows, piece), (processor, wall) = ways, took[ways]
        name = f"{rows} | {piece}" if rows else "block by block, window by window | "
        print(f"| {name} | {_shown(processor)} | {_shown(wall)} | {errors[ways]:.2%} |")


def products(rounds: int) -> None:
    _products_by_rows(rounds)
    _one_in_int8(rounds)


def _products_by_rows(rounds: int) -> None:
    print("| product | 576 rows, GFLOP/s | 1728 rows | 5184 rows |\n| --- | ---: | ---: | ---: |")
    for name, (inputs, outputs) in SHAPES.items():
        x = torch.randn(SIZE * SIZE, inputs).bfloat16()
        packed = packed_weight(torch.randn(outputs, inputs).bfloat16(), ROWS)

        def multiply(rows: int, x: Tensor = x, packed: Tensor = packed) -> None:
            for some in x.split(rows):
                packed_product(some, packed, None)

        sizes = (576, 1728, 5184)
        took = _by_turns({rows: lambda rows=rows: multiply(rows) for rows in sizes}, rounds)
        work = 2 * x.numel() * outputs / 1e6
        print(f"| {name} | {' | '.join(f'{work / min(took[rows][0]):.0f}' for rows in sizes)} |")


def _one_in_int8(rounds: int) -> None:
    """1728 tokens through the first product of the feed-forward and GELU, and the steps of int8."""
    x, hidden = torch.randn(1728, WIDTH).bfloat16(), torch.randn(1728, MLP).bfloat16()
    packed = packed_weight(torch.randn(MLP, WIDTH).bfloat16(), ROWS)
    small = torch.randint(-127, 128, x.shape, dtype=torch.int8)
    weight = torch.randint(-127, 128, (WIDTH, MLP), dtype=torch.int8)
    sums, scale = torch._int_mm(small, weight), torch.rand(MLP)
    took = _by_turns(
        {
            "bfloat16, with GELU": lambda: packed_product(x, packed, None, "gelu"),
            "int8, the product alone (torch._int_mm)": lambda: torch._int_mm(small, weight),
            "quantising its input, token by token": lambda: _quantised(x),
            "scaling its output": lambda: _scaled(sums, torch.rand(1728, 1), scale),
            "GELU": lambda: F.gelu(hidden),
            "quantising the input of the second product": lambda: _quantised(hidden),
        },
        rounds,
    )
    print("\n| 1728 tokens, 1024 x 4736 | least, ms | median |\n| --- | ---: | ---: |")
    for name, (processor, _) in took.items():
        print(f"| {name} | {_shown(processor)} |")


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """A few tokens at a time, which stay in the cache."""
    rounded, scales = torch.empty_like(x, dtype=torch.int8), torch.empty(len(x), 1)
    for start in range(0, len(x), 96):
        some = slice(start, start + 96)
        part = x[some].float()
        scale = part.abs().amax(1, keepdim=True).clamp_(min=1e-9) / 127
        rounded[some], scales[some] = part.div_(scale).round_(), scale
    return rounded, scales


def _scaled(sums: Tensor, of_tokens: Tensor, of_channels: Tensor) -> Tensor:
    scaled = torch.empty_like(sums, dtype=torch.bfloat16)
    for start in range(0, len(sums), 96):
        some = slice(start, start + 96)
        scaled[some] = sums[some].float().mul_(of_channels).mul_(of_tokens[some])
    return scaled


def _rounded(plain: VisionTransformer) -> TrunkInRows:
    """As a model that was loaded in bfloat16 has it."""
    module = copy.deepcopy(plain)
    names = roundable(nn.ModuleList([module]))
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.bfloat16() if f"0.{name}" in names else parameter.data
    fast_on_cpu(module)
    assert isinstance(module, TrunkInRows)
    return module


def _by_turns(
    candidates: Mapping[object, Callable[[], object]], rounds: int
) -> dict[object, tuple[list[float], list[float]]]:
    """Milliseconds of each: of the processor, and on the wall."""
    took: dict[object, tuple[list[float], list[float]]] = {name: ([], []) for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            processor, wall = time.process_time(), time.perf_counter()
            run()
            if number:
                took[name][0].append(1000 * (time.process_time() - processor))
                took[name][1].append(1000 * (time.perf_counter() - wall))
    return took


def _shown(times: list[float]) -> str:
    return f"{min(times):.1f} | {statistics.median(times):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("trunk", "products"))
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    {"trunk": trunk, "products": products}[arguments.what](arguments.rounds)


if __name__ == "__main__":
    main()
