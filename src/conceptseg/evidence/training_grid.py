"""The table of short trainings, variant beside variant, compared on the same pictures and seeds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from conceptseg.evaluation.cgf1 import IMAGE_EPS, INSTANCE_EPS
from conceptseg.evidence.measurement import Line, Row, Settled
from conceptseg.evidence.training_judge import ANSWER
from conceptseg.study.intervals import Array, Bootstrap, Estimate, Statistic, points
from conceptseg.study.table import Table

Figure = Callable[[Array], Statistic]  # (examples, ANSWER) answers -> a statistic over weighted examples


class TrainingGrid:
    """Answers of every variant to the same (seed, picture)s."""

    def __init__(self, table: Table) -> None:
        by_variant: dict[str, dict[tuple[int, int], Row]] = {}
        for row in table.rows:
            by_variant.setdefault(row["variant"], {})[row["seed"], row["picture"]] = row
        self.names = tuple(by_variant)
        every = [set(rows) for rows in by_variant.values()]
        self.keys = sorted(set.intersection(*every)) if every else []
        self._rows = {name: [rows[key] for key in self.keys] for name, rows in by_variant.items()}
        self.draws = Bootstrap([picture for _, picture in self.keys], [seed for seed, _ in self.keys])
        self.runs: dict[str, dict[int, dict[str, Any]]] = {}
        for run in table.setup.get("runs", ()):
            self.runs.setdefault(run["variant"], {})[run["seed"]] = run

    def has(self, *names: str) -> bool:
        return all(name in self.names for name in names)

    def answers(self, name: str) -> Array:
        """(examples, ANSWER)"""
        return np.array([[row[what] for what in ANSWER] for row in self._rows[name]], np.float64)

    def value(self, name: str, figure: Figure | None = None) -> Estimate:
        """A figure of one variant, in points; cgF1 unless told."""
        return points(self.draws.of((figure or cgf1)(self.answers(name))))

    def gain(
        self,
        first: str | Sequence[str],
        second: str | Sequence[str],
        figure: Figure | None = None,
        over: tuple[str, str] | None = None,
    ) -> Estimate:
        """A figure of one variant less that of another, in points; of several pairs, the mean of all.

        Args:
            first: one variant or several.
            second: as many.
            figure: cgF1 unless told.
            over: two variants whose difference is taken off.
        """
        firsts, seconds = ((it,) if isinstance(it, str) else tuple(it) for it in (first, second))
        figure = figure or cgf1
        pairs = [
            (figure(self.answers(a)), figure(self.answers(b))) for a, b in zip(firsts, seconds, strict=True)
        ]
        taken = None if over is None else tuple(figure(self.answers(it)) for it in over)

        def statistic(weights: Array) -> Array:
            mean: Array = np.mean([a(weights) - b(weights) for a, b in pairs], 0)
            return mean if taken is None else mean - (taken[0](weights) - taken[1](weights))

        return points(self.draws.of(statistic))

    def moved(self, what: str, first: str | Sequence[str], second: str | Sequence[str]) -> Estimate:
        """Change of a column of the rows from the second variant to the first; of several pairs, the mean."""
        firsts, seconds = ((it,) if isinstance(it, str) else tuple(it) for it in (first, second))
        columns = [
            np.array([row[what] for row in self._rows[a]], np.float64)
            - np.array([row[what] for row in self._rows[b]], np.float64)
            for a, b in zip(firsts, seconds, strict=True)
        ]
        return self.draws.mean(np.mean(columns, 0))

    def column(self, what: str, name: str) -> Estimate:
        """Mean of a column of one variant's rows."""
        return self.draws.mean([row[what] for row in self._rows[name]])

    def of_runs(
        self,
        value: Callable[[dict[str, Any]], float],
        first: str | Sequence[str],
        second: str | Sequence[str],
    ) -> Estimate:
        """Difference of what runs with the same seed give; units are pairs of variants, and seeds."""
        firsts, seconds = ((it,) if isinstance(it, str) else tuple(it) for it in (first, second))
        units, seeds, values = [], [], []
        for a, b in zip(firsts, seconds, strict=True):
            for seed in sorted(set(self.runs.get(a, {})) & set(self.runs.get(b, {}))):
                units.append(a)
                seeds.append(seed)
                values.append(value(self.runs[a][seed]) - value(self.runs[b][seed]))
        if not values:
            return Estimate(np.nan, np.nan, np.nan, 0, 0, 0)
        return Bootstrap(units, seeds).mean(values)


class TrainingClaim(Settled):
    """A claim that short trainings settle; n is pictures times seeds, each asked for two things.

    Attributes:
        group: of the variants.
        needs: variants without which nothing is said.
    """

    group = "exemplar"
    needs: tuple[str, ...] = ()
    changed = "the exemplar encoder or its losses, as the name of the variant says; it starts fresh"

    @property
    def table(self) -> str:
        return f"{self.group}-trainings"

    @property
    def command(self) -> str:
        return "python benchmarks/trainings.py run --data PHOTOS"

    def examples(self, table: Table) -> int:
        return len(TrainingGrid(table).keys)

    def lines(self, table: Table) -> list[Line]:
        grid = TrainingGrid(table)
        return self.compare(grid) if grid.has(*self.needs) else []

    @abstractmethod
    def compare(self, grid: TrainingGrid) -> list[Line]:
        """Every line of the report, in order; those of variants that are not there are left out."""


def cgf1(answers: Array) -> Statistic:
    """cgF1 over weighted examples, as `evaluation.cgf1` has it: pmF1 times Matthews correlation."""
    quality, known = pmf1(answers), il_mcc(answers)
    return lambda weights: quality(weights) * known(weights)


def pmf1(answers: Array) -> Statistic:
    """F1 of instances where the concept is there, mean over the thresholds of IoU."""
    right, predicted, targets, _ = answers.T
    return lambda weights: 2 * (weights @ right) / (weights @ (predicted + targets) + INSTANCE_EPS)


def il_mcc(answers: Array) -> Statistic:
    """Matthews correlation of having answered with the concept's being there."""
    _, predicted, _, false = answers.T

    def statistic(weights: Array) -> Array:
        tp, fn = weights @ (predicted > 0), weights @ (predicted == 0)
        fp, tn = weights @ (false > 0), weights @ (false == 0)
        spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        result: Array = (tp * tn - fp * fn) / (spread + IMAGE_EPS)
        return result

    return statistic
