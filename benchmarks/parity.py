"""Compare the detector with `transformers`' Sam3Model, tiny and random, and write the table of differences.

    python benchmarks/parity.py

Needs the `test` extra. Writes `benchmarks/results/parity.md`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402  # after the path, as below
import transformers  # noqa: E402

from tests.parity.cases import CASES, differences, run_ours, run_transformers, tiny_pair  # noqa: E402

INTRODUCTION = """\
# Parity with transformers

Maximum absolute difference between our detector and `transformers` {transformers} `Sam3Model`, float32 on the
CPU, over {seeds} sets of random weights (every parameter and stored buffer random, zero-initialised ones too;
the trunk's epsilon 1e-5 on both sides, as in the official code). torch {torch}. Sizes are tiny; windows do
not divide the image.

Allowed: 1e-4, and 2e-3 for mask logits. Written by `python benchmarks/parity.py`.
"""


def measure(seeds: int) -> dict[str, dict[str, float]]:
    """Case -> output -> largest difference over the seeds."""
    worst: dict[str, dict[str, float]] = {name: {} for name in CASES}
    for seed in range(seeds):
        theirs, ours = tiny_pair(seed=seed)
        for name, case in CASES.items():
            for output, difference in differences(
                run_transformers(theirs, case), run_ours(ours, case)
            ).items():
                worst[name][output] = max(difference, worst[name].get(output, 0.0))
    return worst


def table(worst: dict[str, dict[str, float]]) -> str:
    outputs = list(next(iter(worst.values())))
    lines = ["| case | " + " | ".join(outputs) + " |", "| --- |" + " ---: |" * len(outputs)]
    lines += [
        f"| {name} | " + " | ".join(f"{row[o]:.1e}" for o in outputs) + " |" for name, row in worst.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="sets of random weights (default: 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "parity.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = INTRODUCTION.format(
        transformers=transformers.__version__, torch=torch.__version__, seeds=arguments.seeds
    )
    rows = table(measure(arguments.seeds))
    print(rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(f"{text}\n{rows}\n", encoding="utf-8")
    print(f"wrote {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
