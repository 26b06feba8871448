"""What the trunk's feed-forward of the official code since SAM 3.1 changes, on random weights.

    python benchmarks/rounded_mlp.py                    # tiny: seconds
    python benchmarks/rounded_mlp.py --sizes tiny full  # the released size too: 8 GB of memory and minutes

Writes `benchmarks/results/rounded_mlp.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402  # after the path, as below
from torch import Tensor  # noqa: E402

from conceptseg.conformance.weights import randomise, tiny_config  # noqa: E402
from conceptseg.models.build import build_detector  # noqa: E402
from conceptseg.models.config import DetectorConfig  # noqa: E402
from conceptseg.models.presets import SAM3  # noqa: E402

OUT = ROOT / "benchmarks" / "results" / "rounded_mlp.md"
SIZES = {"tiny": tiny_config().architecture, "full": SAM3}
RESOLUTION = {"tiny": 140, "full": 1008}
WORDS = [[1, 17, 33, 2], [1, 5, 2, 0]]
INTRODUCTION = """\
# The rounded feed-forward of the trunk

`vision.rounded_mlp`: first product in bfloat16, GELU by tanh, as the official code has them on CUDA since SAM
3.1, against the standard, exact one. Everything else in float32, or under bfloat16 autocast; random weights
(`conformance/weights.py`), one random image, two phrases, CPU, torch {torch}. Root mean square of the
difference over that of the output; the last column is what autocast itself changes. Written by
`python benchmarks/rounded_mlp.py`.
"""


@torch.inference_mode()
def outputs(config: DetectorConfig, state: dict[str, Tensor], side: int, half: bool) -> dict[str, Tensor]:
    with torch.device("meta"):
        detector = build_detector(config)
    detector.load_state_dict(state, assign=True)
    detector.eval()
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = torch.zeros(2, config.text.context_length, dtype=torch.long)
    ids[:, :4] = torch.tensor(WORDS)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = detector(pixels, ids)
        masks = found.mask_logits
    return {
        "trunk": found.image.trunk[0],
        "neck, last level": found.image.levels[-1],
        "memory": found.fusion.memory,
        "class logits": found.class_logits[-1],
        "boxes": found.boxes_cxcywh[-1],
        "presence logits": found.presence_logits[-1],
        "mask logits": masks,
    }


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    return {name: float((one[name] - other[name]).norm() / other[name].norm()) for name in other}


def measure(size: str) -> list[dict[str, float]]:
    """Rounded against exact in float32, the same under autocast, and autocast against float32."""
    config = SIZES[size]
    torch.manual_seed(0)
    detector = build_detector(config)
    randomise(detector, 0)
    state = detector.state_dict()
    rounded = dataclasses.replace(config, vision=dataclasses.replace(config.vision, rounded_mlp=True))
    side = RESOLUTION[size]
    exact = outputs(config, state, side, half=False)
    exact_half = outputs(config, state, side, half=True)
    return [
        apart(outputs(rounded, state, side, half=False), exact),
        apart(outputs(rounded, state, side, half=True), exact_half),
        apart(exact_half, exact),
    ]


def table(size: str, columns: list[dict[str, float]]) -> str:
    title = {"tiny": "Four blocks of width 64, 140 px", "full": "The released size, 1008 px"}[size]
    lines = [
        f"## {title}",
        "",
        "| output | rounded, float32 | rounded, autocast | autocast alone |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {name} | {' | '.join(f'{column[name]:.1e}' for column in columns)} |" for name in columns[0]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny"], help="default: tiny")
    tables = [table(size, measure(size)) for size in parser.parse_args().sizes]
    text = INTRODUCTION.format(torch=torch.__version__).strip()
    print("\n\n".join(tables))
    OUT.write_text("\n\n".join([text, *tables]) + "\n", encoding="utf-8")
    print(f"wrote {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
