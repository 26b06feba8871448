"""G6 to G10: what short trainings of variants of the exemplar path say.

Names of variants are those of benchmarks/trainings.yaml: "roi 3" is the encoder `roi` with alignment losses
weighed 3, "vision roi 3" the same with the vision encoder training. What was not trained has no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from conceptseg.evidence.alignment_claim import ENCODERS, FOUND, GAINS, aligned
from conceptseg.evidence.measurement import Line, Verdict
from conceptseg.evidence.training_figures import draw_adaptive, draw_bridge
from conceptseg.evidence.training_grid import TrainingClaim, TrainingGrid
from conceptseg.exemplars.smoothness import roughness
from conceptseg.study.intervals import Bootstrap
from conceptseg.study.table import Table

OWN = "roi"  # the encoder of the model and of the released ones
TARGET = 0.75  # box F1 on held-out scenes; convergence is the steps to it
PARTS = ("early", "middle", "late")
WITHOUT = ("no kernels", "no selector", "no modulator", "none")


class UnifiedEncoder(TrainingClaim):
    """G6. Control: the vision encoder frozen, and no alignment."""

    claim = "G6"
    needs = ("roi 0", "unified 0", "vision roi 0", "vision unified 0")

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = []
        frozen, trains = ("unified 0", "roi 0"), ("vision unified 0", "vision roi 0")
        lines += [
            Line("vision frozen: unified less roi", grid.gain(*frozen), "+.1f", True, GAINS),
            Line("vision trains: unified less roi", grid.gain(*trains), "+.1f", group=GAINS),
            Line(
                "unified less roi: more with vision training",
                grid.gain(*trains, over=frozen),
                "+.1f",
                group=GAINS,
            ),
        ]
        for encoder in ("roi", "unified"):
            base = f"vision {encoder} 0"
            lines += _conflict(grid, base)
            for kind, words in (("", ""), (" apart", " told apart")):
                name = f"vision {encoder}{kind} 3"
                if grid.has(name):
                    lines += aligned(grid, f"vision trains, {encoder}{words} at 3", [name], [base])
                    lines += _conflict(grid, name)
        for name in grid.names:
            if name.startswith("vision"):
                lines.append(Line(f"{name}: cgF1", grid.value(name), ".1f"))
        if grid.runs:
            rougher = grid.of_runs(_roughness, *trains)
            lines.append(Line("vision trains: roughness of the loss, unified less roi", rougher, "+.4f"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = (
            "vision frozen: unified less roi",
            "vision trains: unified less roi",
            "unified less roi: more with vision training",
        )
        frozen, trains, more = (lines[name].estimate for name in effect)
        if trains.above() and more.above():
            return Verdict("confirmed", "it helps, and more where the vision encoder trains too", effect)
        if frozen.above() or trains.above():
            where = " and ".join(
                word for word, it in (("frozen", frozen), ("training", trains)) if it.above()
            )
            return Verdict(
                "depends", f"it helps with the vision encoder {where}, not most when it trains", effect
            )
        if frozen.below() or trains.below():
            return Verdict(
                "refuted", "it surely finds less, and no more with the vision encoder training", effect
            )
        return Verdict("refuted", "it surely helps neither way", effect)


class Bridge(TrainingClaim):
    """G7. Control: each level alone."""

    claim = "G7"
    needs = ("bridge 0", "bridge early", "bridge middle", "bridge late")

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = [Line("bridge 0: cgF1", grid.value("bridge 0"), ".1f")]
        for part in PARTS:
            less = grid.gain("bridge 0", f"bridge {part}")
            lines.append(Line(f"three levels less {part} alone", less, "+.1f", group=GAINS))
        if grid.has("bridge 0", f"{OWN} 0"):
            less = grid.gain("bridge 0", f"{OWN} 0")
            lines.append(Line(f"three levels less {OWN}", less, "+.1f", True, GAINS))
        runs = grid.runs.get("bridge 0", {})
        for when in ("before", "after"):
            for place, part in enumerate(PARTS):
                shares = [run[when]["level_weights"][place] for run in runs.values()]
                if shares:
                    found = Bootstrap([0] * len(shares), list(runs)).mean(shares)
                    lines.append(Line(f"share of the {part} level, {when}", found, ".3f"))
            gates = [float(np.mean(run[when]["gate"])) for run in runs.values()]
            if gates:
                found = Bootstrap([0] * len(gates), list(runs)).mean(gates)
                lines.append(Line(f"gate: share of the exemplar's side, {when}", found, ".3f"))
        return lines

    def draw_parts(self, table: Table, path: Path) -> bool:
        runs = list(TrainingGrid(table).runs.get("bridge 0", {}).values())
        if runs:
            draw_bridge(runs, PARTS, path)
        return bool(runs)

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = tuple(name for name in lines if name.startswith("three levels less ") and "alone" in name)
        return better(
            lines,
            effect,
            "three levels surely find more than each alone",
            "no level alone finds surely less than the three together",
            "on the level that it is compared with",
        )


class Adaptive(TrainingClaim):
    """G8. Control: the encoder with none of its parts."""

    claim = "G8"
    needs = ("roi 0", "adaptive 0", "adaptive no kernels", "adaptive no selector", "adaptive no modulator")

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = [Line("adaptive 0: cgF1", grid.value("adaptive 0"), ".1f")]
        for part in WITHOUT:
            if grid.has("adaptive 0", f"adaptive {part}"):
                less = grid.gain("adaptive 0", f"adaptive {part}")
                words = "any part" if part == "none" else part.removeprefix("no ")
                lines.append(Line(f"whole less one without {words}", less, "+.1f", part == "none", GAINS))
        less = grid.gain("adaptive 0", f"{OWN} 0")
        lines.append(Line(f"whole less {OWN}", less, "+.1f", True, GAINS))
        told_apart = ("adaptive apart 30", f"{OWN} apart 30")
        if grid.has(*told_apart):
            less = grid.gain(*told_apart)
            lines.append(Line(f"whole less {OWN}, both told apart at 30", less, "+.1f", group=GAINS))
        runs = grid.runs.get("adaptive 0", {})
        for when in ("before", "after"):
            follows = [_follows_size(run[when]["kernels"]) for run in runs.values()]
            if follows:
                found = Bootstrap([0] * len(follows), list(runs)).mean(follows)
                name = f"share of the 7 x 7 kernel with the box's side, rank correlation, {when}"
                lines.append(Line(name, found, "+.2f", when == "before"))
        return lines

    def draw_parts(self, table: Table, path: Path) -> bool:
        runs = list(TrainingGrid(table).runs.get("adaptive 0", {}).values())
        if runs:
            draw_adaptive(runs, path)
        return bool(runs)

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        whole, parts = f"whole less {OWN}", [f"whole less one without {it[3:]}" for it in WITHOUT[:3]]
        effect = (whole, *parts)
        sure = [name for name in parts if lines[name].estimate.above()]
        needed = ", ".join(name.removeprefix("whole less one without ") for name in sure) or "none"
        if not lines[whole].estimate.above():
            return Verdict("refuted", f"the whole does not surely find more than {OWN}", effect)
        if len(sure) == len(parts):
            return Verdict(
                "confirmed", f"it surely finds more than {OWN}, and with each of its parts", effect
            )
        why = f"on the part: the whole surely finds more than {OWN}; of its parts surely needed: {needed}"
        return Verdict("depends", why, effect)


class ProgressiveSchedule(TrainingClaim):
    """G9. Control: the joint objective at the same peak rate and steps; neither has a cosine."""

    claim = "G9"
    needs = ("roi progressive", "roi joint")
    changed = (
        "the schedule: a tenth, half and all of the rate with alignment at 0.1, 0.3, 0.1; or 0.3 at once"
    )

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = []
        for name in ("roi progressive", "roi joint", "roi 0.3"):
            if grid.has(name):
                words = "roi joint, with a cosine" if name == "roi 0.3" else name
                lines.append(Line(f"{words}: cgF1", grid.value(name), ".1f", name != "roi progressive"))
        for name, words in (("roi joint", "joint"), ("roi 0.3", "joint with a cosine")):
            if grid.has("roi progressive", name):
                less = grid.gain("roi progressive", name)
                lines.append(Line(f"progressive less {words}: cgF1", less, "+.1f", group=GAINS))
                sooner = grid.of_runs(_mean_f1, "roi progressive", name)
                lines.append(Line(f"progressive less {words}: box F1 on the way", sooner, "+.3f"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = ("progressive less joint: cgF1",)
        if lines[effect[0]].estimate.below():
            return Verdict("refuted", "at equal steps the joint objective surely finds more", effect)
        return better(
            lines,
            effect,
            "at equal steps it surely finds more",
            "at equal steps neither surely finds more",
            "",
        )


class Remedies(TrainingClaim):
    """G10. Control: the encoder of the model without alignment."""

    claim = "G10"
    needs = ("roi 0", "roi 3")

    def compare(self, grid: TrainingGrid) -> list[Line]:
        lines = []
        remedies: dict[str, tuple[Sequence[str], Sequence[str]]] = {
            it: ([f"{it} 0"], [f"{OWN} 0"])
            for it in ENCODERS
            if it != OWN and grid.has(f"{it} 0", f"{OWN} 0")
        }
        for kind, words in (("", "alignment at 3"), (" apart", "told apart at 3")):
            done = [it for it in ENCODERS if grid.has(f"{it}{kind} 3", f"{it} 0")]
            if done:
                remedies[words] = [f"{it}{kind} 3" for it in done], [f"{it} 0" for it in done]
        for name, (first, second) in remedies.items():
            lines.append(Line(f"{name}: {FOUND}", grid.gain(first, second), "+.1f", group=GAINS))
            if grid.runs:
                sooner, rough = (grid.of_runs(it, first, second) for it in (_mean_f1, _roughness))
                steps = grid.of_runs(_steps_to_target, first, second)
                lines += [
                    Line(f"{name}: {SOONER}", sooner, "+.3f", group=SOONER),
                    Line(f"{name}: steps to a box F1 of {TARGET}", steps, "+.0f"),
                    Line(f"{name}: {ROUGH}", rough, "+.4f"),
                ]
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        wanted = {FOUND: 1, SOONER: 1, ROUGH: -1}  # in which direction it is better
        names = dict.fromkeys(name.split(": ")[0] for name in lines)
        good: dict[str, list[str]] = {}
        asked = [(remedy, what) for remedy in names for what in wanted if f"{remedy}: {what}" in lines]
        for remedy, what in asked:
            it = lines[f"{remedy}: {what}"].estimate
            if it.above() if wanted[what] > 0 else it.below():
                good.setdefault(remedy, []).append(what)
        effect = tuple(f"{remedy}: {FOUND}" for remedy in names)
        count = sum(len(it) for it in good.values())
        if asked and count == len(asked):
            return Verdict("confirmed", "every remedy is better in all that was looked at", effect)
        if not count:
            return Verdict("refuted", "no remedy is surely better in anything", effect)
        said = "; ".join(f"{remedy} ({', '.join(it)})" for remedy, it in good.items())
        return Verdict("depends", f"on the remedy: surely better {said}", effect)


SOONER, ROUGH = "box F1 on the way, mean of the looks", "roughness of the loss"


def better(lines: dict[str, Line], effect: tuple[str, ...], all_: str, none: str, some: str) -> Verdict:
    """By how many of the differences that carry the claim lie surely above 0."""
    above = [name for name in effect if lines[name].estimate.above()]
    if len(above) == len(effect):
        return Verdict("confirmed", all_, effect)
    return Verdict("depends", some, effect) if above else Verdict("refuted", none, effect)


def _conflict(grid: TrainingGrid, name: str) -> list[Line]:
    """Cosine of the gradients through the two encoders, before and after training."""
    lines = []
    for when in ("before", "after"):
        values, places, seeds = [], [], []
        for seed, run in grid.runs.get(name, {}).items():
            cosines = run[when].get("conflict", [])
            values += cosines
            places += list(range(len(cosines)))
            seeds += [seed] * len(cosines)
        if values:
            found = Bootstrap(places, seeds).mean(values)
            lines.append(
                Line(f"{name}: cosine of the two gradients, {when}", found, "+.3f", when == "before")
            )
    return lines


def _roughness(run: dict[str, Any]) -> float:
    return roughness(run["losses"])


def _mean_f1(run: dict[str, Any]) -> float:
    return float(np.mean([value for _, value in run["box_f1"]]))


def _steps_to_target(run: dict[str, Any]) -> float:
    """The first look that shows it; one look further than the last where none does."""
    steps = [step for step, value in run["box_f1"] if value >= TARGET]
    last = run["box_f1"][-1][0]
    return float(steps[0]) if steps else float(last + last / len(run["box_f1"]))


def _follows_size(kernels: Sequence[Sequence[float]]) -> float:
    """Rank correlation of the largest kernel's share with the side of the box; 0 where it never changes."""
    sides, shares = [row[0] for row in kernels], [row[-1] for row in kernels]
    return 0.0 if len(set(shares)) < 2 else float(spearmanr(sides, shares).statistic)
