"""F1: what short trainings of variants of the fusion encoder say.

Names of variants are those of benchmarks/trainings.yaml.
"""

from __future__ import annotations

from typing import Any

from conceptseg.evidence.alignment_claim import GAINS
from conceptseg.evidence.measurement import Line, Verdict
from conceptseg.evidence.training_claims import better
from conceptseg.evidence.training_grid import TrainingClaim, TrainingGrid, il_mcc

LEARNED = 10.0  # points of cgF1 that a control surely has, or a comparison with it says nothing
FUSIONS = {  # what the fusion encoder can do besides, and what each is compared with
    "pool mean": "pool none",
    "pool masked mean": "pool none",
    "two levels": "one level",
    "fresh pool mean": "fresh pool none",
    "fresh pool masked mean": "fresh pool none",
    "fresh post-norm": "fresh pool none",
}


class PooledPrompt(TrainingClaim):
    """F1. Control: the same training of the same fusion encoder without it."""

    claim = "F1"
    needs = ("pool none", "pool mean")
    group = "fusion"
    changed = (
        "the fusion encoder, which reads phrases: the finished model's, where what is new starts at nothing, "
        "or a fresh one; what reads its memory trains along"
    )

    def compare(self, grid: TrainingGrid) -> list[Line]:
        controls = ("pool none", "one level", "fresh pool none")
        lines = [Line(f"{name}: cgF1", grid.value(name), ".1f", name in controls) for name in grid.names]
        for name, base in FUSIONS.items():
            if grid.has(name, base):
                lines += [
                    Line(f"{name} less {base}: cgF1", grid.gain(name, base), "+.1f", group=GAINS),
                    Line(f"{name} less {base}: IL-MCC x 100", grid.gain(name, base, il_mcc), "+.1f"),
                ]
                if grid.runs:
                    boxes = grid.of_runs(_last_f1, name, base)
                    lines.append(Line(f"{name} less {base}: box F1 of the last look", boxes, "+.3f"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        every = {f"{name} less {base}: cgF1": base for name, base in FUSIONS.items() if "mean" in name}
        means = {name: base for name, base in every.items() if name in lines}
        controls = {base: lines[f"{base}: cgF1"].estimate for base in means.values()}
        learned = [base for base, it in controls.items() if it.low >= LEARNED]
        if not learned:
            best = max(it.value for it in controls.values())
            little = f"too little was learned in so few steps: cgF1 of the control is {best:.1f}"
            return Verdict("cannot be tested here", little, tuple(means))
        return better(
            lines,
            tuple(name for name, base in means.items() if base in learned),
            "with it surely more is found",
            "nowhere is surely more found with it than with the attention alone",
            "on which mean is added, and to which model",
        )


def _last_f1(run: dict[str, Any]) -> float:
    return float(run["box_f1"][-1][1])
