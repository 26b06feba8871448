"""G5: what short trainings with and without the alignment losses say.

Names of variants are those of benchmarks/trainings.yaml: "roi 3" is the encoder `roi` with the losses of the
analysis weighed 3, "roi apart 3" with the contrastive loss that tells tokens from what other examples show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.evidence.measurement import Line, Verdict
from conceptseg.evidence.training_figures import draw_gap_and_gain
from conceptseg.evidence.training_grid import TrainingClaim, TrainingGrid
from conceptseg.losses.alignment import CONTRASTIVE, DISTILLATION
from conceptseg.study.intervals import Estimate
from conceptseg.study.table import Table

ENCODERS = ("roi", "roi_transformer", "unified", "bridge", "adaptive")
WEIGHTS = ("0.3", "3", "30", "100")
FORMS = {"": "", " apart": " told apart"}  # of the losses, in the name of a variant: in words
BESIDE = {  # other comparisons: variant and control
    "roi told apart, projected, at 3": ("roi apart projected 3", "roi 0"),
    "roi told from the background, raw, at 3": ("roi background raw 3", "roi 0"),
    "a student at 3": ("student roi 3", "student roi 0"),
    "a student at 3, ROI features of its teacher": ("student roi taught 3", "student roi 0"),
    "roi told apart at 3, 400 steps": ("long roi apart 3", "long roi 0"),
    "a student told apart at 3": ("student roi apart 3", "student roi 0"),
    "the model's own told apart at 3": ("own apart 3", "own 0"),
    "the model's own told apart at 30": ("own apart 30", "own 0"),
}
TRAINED = (  # encoders that do not start afresh
    "a student told apart at 3",
    "the model's own told apart at 3",
    "the model's own told apart at 30",
)
OTHER_LOSSES = ("taught", "apart", "raw")  # variants whose losses are others than those of their control
KINDS = {  # of comparisons, by what is in their names, the first that fits
    "an encoder that has trained": ("student", "own"),
    "told apart, or raw: a fresh encoder": ("told apart", "told from"),
    "as the analysis has it: a fresh encoder": ("",),
}
FOUND, RAW = "gain in cgF1", "nearer to its own feature, raw"
GAINS = "gain in cgF1, points"
NEARER = "token nearer to its own image feature than to those of others, cosine"


class AlignmentLosses(TrainingClaim):
    """G5. Control: the same losses, computed and weighed with nothing."""

    claim = "G5"
    parts = "How far the gap closes, and what is found for it"
    changed = "the alignment losses; the encoder starts fresh, but for a student's and the model's own"
    needs = ("roi 0", "roi 3")

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = []
        for encoder in ENCODERS:
            base = f"{encoder} 0"
            if not grid.has(base):
                continue
            lines.append(Line(f"{base}: cgF1", grid.value(base), ".1f", True))
            lines.append(Line(f"{base}: {RAW}", grid.column("apart", base), ".3f", True))
            for form, words in FORMS.items():
                for weight in WEIGHTS:
                    name = f"{encoder}{form} {weight}"
                    if grid.has(name):
                        lines.append(Line(f"{encoder}{words} at {weight}: cgF1", grid.value(name), ".1f"))
                        lines += aligned(grid, f"{encoder}{words} at {weight}", [name], [base])
        for words, (name, base) in BESIDE.items():
            if grid.has(name, base):
                lines.append(Line(f"{words}: cgF1", grid.value(name), ".1f"))
                lines += aligned(grid, words, [name], [base])
        for form, words in FORMS.items():
            for weight in WEIGHTS:
                done = [it for it in ENCODERS if grid.has(f"{it}{form} {weight}", f"{it} 0")]
                if len(done) > 1:
                    names, bases = [f"{it}{form} {weight}" for it in done], [f"{it} 0" for it in done]
                    lines += aligned(grid, f"{len(done)} encoders{words} at {weight}", names, bases)
        for weight in (it for it in WEIGHTS if it != "3"):
            done = [it for it in ENCODERS if grid.has(f"{it} apart {weight}", f"{it} apart 3")]
            if done:
                less = grid.gain([f"{it} apart {weight}" for it in done], [f"{it} apart 3" for it in done])
                words = "encoder" if len(done) == 1 else "encoders"
                lines.append(
                    Line(f"{len(done)} {words}, told apart: at {weight} less at 3, cgF1", less, "+.1f")
                )
        return lines

    def draw_parts(self, table: Table, path: Path) -> bool:
        lines = {line.name: line for line in self.lines(table)}
        points: dict[str, list[tuple[str, Estimate, Estimate]]] = {kind: [] for kind in KINDS}
        for name, line in lines.items():
            words, _, what = name.rpartition(": ")
            if what == RAW and f"{words}: {FOUND}" in lines and "encoders" not in words:
                kind = next(it for it, marks in KINDS.items() if any(mark in words for mark in marks))
                points[kind].append(
                    (words.replace(" told apart", ""), line.estimate, lines[f"{words}: {FOUND}"].estimate)
                )
        if not any(points.values()):
            return False
        draw_gap_and_gain(points, path)
        return True

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        whole, apart = (_sure_at(lines, words) for words in FORMS.values())
        effect = whole.effect + apart.effect
        if whole.helps and set(whole.helps) <= set(whole.closes):
            return Verdict(
                "confirmed", f"the gap closes and more is found (at {', '.join(whole.helps)})", effect
            )
        if whole.helps:
            return Verdict("depends", "more is found at some weight, but not because the gap closes", effect)
        if whole.closes:
            why = "the losses close the gap, but at no weight is surely more found for it"
        elif whole.widens:
            why = "at no weight does the gap surely close (it widens) or is surely more found"
        else:
            why = "at no weight does the gap surely close or is surely more found"
        both = [weight for weight in apart.helps if weight in apart.closes]
        if both:
            told = (
                f"on what a token is told from: from the background, {why}; from what other examples show, "
                f"the gap closes and more is found (at {', '.join(both)})"
            )
            trained = [f"{words}: {FOUND}" for words in TRAINED if f"{words}: {FOUND}" in lines]
            if trained and not any(lines[name].estimate.above() for name in trained):
                told += ", by encoders that start afresh; those that have trained find no more"
            return Verdict("depends", told, (*effect, *trained))
        return Verdict("refuted", why, effect)


@dataclass(frozen=True)
class SureAt:
    """Of one form of the losses: the weights at which something is sure, and the lines that say it."""

    closes: list[str]
    widens: list[str]
    helps: list[str]
    effect: tuple[str, ...]


def _sure_at(lines: dict[str, Line], form: str) -> SureAt:
    """At each weight the mean of several encoders, else of the one; the effect prefers the former."""
    closes, widens, helps = [], [], []
    means: list[str] = []
    ones: list[str] = []
    for weight in WEIGHTS:
        several = [name for name in lines if re.fullmatch(rf"\d+ encoders{form} at {weight}: {RAW}", name)]
        one = [name for it in ENCODERS if (name := f"{it}{form} at {weight}: {RAW}") in lines]
        for raw in (several or one)[:1]:
            gain = raw.replace(RAW, FOUND)
            (means if several else ones).extend([raw, gain])
            if lines[raw].estimate.above():
                closes.append(weight)
            if lines[raw].estimate.below():
                widens.append(weight)
            if lines[gain].estimate.above():
                helps.append(weight)
    return SureAt(closes, widens, helps, effect=tuple(means or ones))


def aligned(grid: TrainingGrid, words: str, names: Sequence[str], bases: Sequence[str]) -> list[Line]:
    """What the alignment losses change: themselves, the gap in both spaces, and what is found."""
    lines = [
        Line(
            f"{words}: {loss.replace('exemplar_', '')} loss in the last ten steps",
            grid.of_runs(partial(_last_loss, loss=loss), names, bases),
            "+.2f",
        )
        for loss in (CONTRASTIVE, DISTILLATION)
        if grid.runs and not any(it in name for name in names for it in OTHER_LOSSES)
    ]
    raw, projected = (grid.moved(it, names, bases) for it in ("apart", "projected_apart"))
    lines.append(Line(f"{words}: {RAW}", raw, "+.3f", group=NEARER))
    if np.isfinite(projected.value):  # there is another space than the network's
        lines.append(Line(f"{words}: nearer, in the space of the losses", projected, "+.3f"))
    return [
        *lines,
        Line(f"{words}: nearest to its own feature", grid.moved("first", names, bases), "+.1%"),
        Line(f"{words}: {FOUND}", grid.gain(names, bases), "+.1f", group=GAINS),
    ]


def _last_loss(run: dict[str, Any], loss: str) -> float:
    return float(run["alignment"][loss][-1])
