"""Settle the claims of the two analyses that need no training; docs/claims.md is written from the result.

    python benchmarks/evidence.py pin                              # the weights of `nano` are those meant now
    python benchmarks/evidence.py run --data PHOTOS --processes 2  # all claims; --claims F2,F4 for some
    python benchmarks/evidence.py run --data PHOTOS --minutes 20   # stops after so long; run again to go on
    python benchmarks/evidence.py report                           # tables, figures and docs/claims.md

PHOTOS holds the datasets `contours` and `objects` (docs/training-nano.md says where they come from), or is
one dataset itself. Values of every example go to benchmarks/results/evidence/CLAIM-PICTURES.json, from which
`report` computes all tables, intervals and figures. Work in progress lies in runs/evidence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conceptseg.errors import ConceptSegError
from conceptseg.evidence.claims import MEASUREMENTS

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path(__file__).with_suffix(".yaml")
RESULTS = ROOT / "benchmarks" / "results" / "evidence"


def main(words: Sequence[str] | None = None) -> int:
    given = parse(words)
    try:
        return {"pin": pin_weights, "run": run, "report": report}[given.task](given)
    except ConceptSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--results", type=Path, default=RESULTS, help="tables, and reports of claims")
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("pin", help="write the digest of the model's weights into the recipe")
    measure = tasks.add_parser("run", help="measure what is not measured yet")
    measure.add_argument("--claims", default=",".join(MEASUREMENTS), help="F2,F4,...")
    measure.add_argument("--data", type=Path, help="folder of photographs")
    measure.add_argument("--minutes", type=float, help="begin nothing after so long")
    measure.add_argument("--processes", type=int, default=1)
    measure.add_argument("--pictures", type=int, help="of each claim, for a trial; too few give no verdict")
    measure.add_argument("--model", help="another than the recipe's; with --any-weights")
    measure.add_argument("--half-trained", help="the model at half of its training, for G2")
    measure.add_argument("--any-weights", action="store_true", help="measure whatever the weights are")
    measure.add_argument("--work", type=Path, default=ROOT / "runs" / "evidence")
    write = tasks.add_parser("report", help="write tables, figures and docs/claims.md")
    write.add_argument("--any-weights", action="store_true", help="report on tables of other weights too")
    write.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    write.add_argument("--page", type=Path, default=ROOT / "docs" / "claims.md")
    return parser.parse_args(words)


def pin_weights(given: argparse.Namespace) -> int:
    from conceptseg.evidence.recipe import pin, read_evidence_recipe
    from conceptseg.study.pinned import weights_digest

    recipe = read_evidence_recipe(given.recipe)
    digest = weights_digest(recipe.model)
    pin(given.recipe, digest)
    print(f"{given.recipe}: {recipe.model} with the weights {digest}")
    return 0


def run(given: argparse.Namespace) -> int:
    import dataclasses

    from conceptseg.evidence.recipe import read_evidence_recipe
    from conceptseg.evidence.run import EvidenceRun, run_evidence

    recipe = read_evidence_recipe(given.recipe)
    if recipe.weights is None and not given.any_weights:
        print(f"error: {given.recipe} pins no weights; `pin` them, or say --any-weights", file=sys.stderr)
        return 2
    if given.model is not None:
        recipe = dataclasses.replace(recipe, model=given.model)
    if given.any_weights:
        recipe = dataclasses.replace(recipe, weights=None)
    claims = tuple(claim for claim in given.claims.split(",") if claim)
    chosen = EvidenceRun(
        recipe, claims, given.work, given.results, given.data, given.pictures, given.half_trained
    )
    progress = run_evidence(chosen, minutes=given.minutes, processes=given.processes)
    for it in progress:
        print(f"{it.claim} on {it.source}: {it.done} of {it.pieces} pieces")
    whole = all(it.done == it.pieces for it in progress)
    print(f"wrote {given.results}" if whole else "stopped; the same command goes on")
    return 0


def report(given: argparse.Namespace) -> int:
    from conceptseg.evidence.recipe import read_evidence_recipe
    from conceptseg.evidence.report import write_report

    weights = None if given.any_weights else read_evidence_recipe(given.recipe).weights
    for path in write_report(given.results, given.images, given.page, weights):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
