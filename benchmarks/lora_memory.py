"""What low-rank tuning saves: memory of one training step, whole model against low rank.

    python benchmarks/lora_memory.py                # SAM 3 with a quarter of its layers, in a few minutes
    python benchmarks/lora_memory.py --full         # at its released size: needs 16 GB for the whole model

Each way runs in a process of its own: random weights in float32, one image, one phrase, AdamW, activations in
bfloat16; a sum of all outputs stands for the losses. Memory is what Linux counts as resident, less what the
process held before the model was made. Linux only. Writes benchmarks/results/lora_memory.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "lora_memory.md"
WAYS = {"everything": 0, "low rank 16": 16, "low rank 4": 4}


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def step(rank: int, full: bool, resolution: int) -> dict[str, Any]:
    """One step of training; rank 0 trains everything."""
    import torch

    from conceptseg.models.build import build_detector
    from conceptseg.models.presets import PRESETS
    from conceptseg.train.lora import add_lora
    from conceptseg.train.run_config import LoraConfig

    config = PRESETS["sam3"]
    if not full:
        vision = dataclasses.replace(config.vision, depth=8, global_blocks=(1, 3, 5, 7))
        config = dataclasses.replace(config, vision=vision, text=dataclasses.replace(config.text, depth=6))
    before = resident("VmRSS")
    detector = build_detector(config).train()
    if rank:
        detector.requires_grad_(False)
        add_lora(detector, LoraConfig(rank=rank))
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    for _ in range(2):  # the optimiser's averages are made by the first step
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            words = torch.tensor([[49406, 736, 3205, 49407, *[0] * 28]])
            output = detector(torch.rand(1, 3, resolution, resolution), words)
        outputs = (output.class_logits, output.boxes_cxcywh, output.presence_logits, output.mask_logits)
        sum(value.float().mean() for value in outputs).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds = time.process_time() - start
    return {
        "weights": sum(p.numel() for p in detector.parameters()),
        "trained": sum(p.numel() for p in trained),
        "peak": resident("VmHWM") - before,
        "seconds": seconds,
    }


def table(found: dict[str, dict[str, Any]], resolution: int) -> str:
    weights = found["everything"]["weights"]
    lines = [
        "# Memory of low-rank tuning\n",
        f"One step of AdamW on SAM 3's layers, {weights / 1e6:.0f} million weights in float32 "
        f"({weights * 4 / 2**30:.2f} GiB), one image of {resolution} pixels, CPU.\n",
        "| trained | weights that train | peak memory, GiB | processor time of a step, s |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {row['trained']:,} | {row['peak'] / 2**30:.2f} | {row['seconds']:.1f} |"
        for name, row in found.items()
    ]
    return "\n".join(lines) + "\n\nMade by `python benchmarks/lora_memory.py`.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all layers of the released model")
    parser.add_argument("--resolution", type=int, default=336)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)  # of the process that measures
    arguments = parser.parse_args()
    if arguments.rank is not None:
        print(json.dumps(step(arguments.rank, arguments.full, arguments.resolution)))
        return
    found = {}
    for name, rank in WAYS.items():
        options = ["--rank", str(rank), "--resolution", str(arguments.resolution)]
        options += ["--full"] if arguments.full else []
        run = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE)
        found[name] = json.loads(run.stdout.splitlines()[-1])
        print(f"{name}: {found[name]}", file=sys.stderr)
    RESULTS.write_text(table(found, arguments.resolution), encoding="utf-8")
    print(f"wrote {RESULTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
