"""Check `transformers`' Sam3Model against the conformance kit, and write what departs.

    python benchmarks/conformance.py

Needs the `test` extra. Writes `benchmarks/results/conformance.md`.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402  # after the path, as below
import transformers  # noqa: E402

from conceptseg.conformance.kit import AGREES, Conformance, Kit, check, summary  # noqa: E402
from conceptseg.conformance.make import make_kit  # noqa: E402
from tests.conformance.transformers_port import open_transformers, transformers_answers  # noqa: E402

OUT = ROOT / "benchmarks" / "results" / "conformance.md"
INTRODUCTION = """\
# The conformance kit on transformers

`transformers` {transformers} `Sam3Model`, opened with `from_pretrained` from the kit's weights, float32 on
the CPU, torch {torch}. Difference: the largest one of a stage, over its root mean square; of masks the
share of pixels that differ. Written by `python benchmarks/conformance.py`.

As released, "released"; "no clamp": with `clamp_presence_logit_max_val` set to infinity; "epsilon 1e-6": with
the layer norms of the trunk as in `Sam3Config()`, besides.
"""


def measure() -> dict[str, Conformance]:
    """What the kit says of three forms of the model."""
    found = {}
    with tempfile.TemporaryDirectory() as work:
        kit = Kit(make_kit(Path(work) / "kit"))
        model = open_transformers(kit, Path(work) / "hf")
        found["released"] = check(kit, transformers_answers(model, kit))
        model.detr_decoder.clamp_presence_logit_max_val = math.inf
        found["no clamp"] = check(kit, transformers_answers(model, kit))
        for module in model.vision_encoder.backbone.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        found["epsilon 1e-6"] = check(kit, transformers_answers(model, kit))
    return found


def table(found: dict[str, Conformance]) -> str:
    """One row per stage; what departs is marked."""
    lines = [f"| stage | {' | '.join(found)} |", "| --- |" + " ---: |" * len(found)]
    for row in zip(*(conformance.findings for conformance in found.values()), strict=True):
        cells = [f"{f.distance:.1e}" if f.status == AGREES else f"**{f.distance:.1e}**" for f in row]
        lines.append(f"| {row[0].stage.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    found = measure()
    verdicts = "\n\n".join(
        f"{name}:\n\n```text\n{summary(conformance)}\n```" for name, conformance in found.items()
    )
    text = INTRODUCTION.format(transformers=transformers.__version__, torch=torch.__version__)
    OUT.write_text(f"{text}\n{table(found)}\n\n{verdicts}\n", encoding="utf-8")
    print(table(found))
    print(f"wrote {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
