"""How sure is a figure? Bootstrap intervals over scenes, and over training seeds where there are seeds.

    draws = Bootstrap(table.column("scene"))
    draws.mean(effect)                  # Estimate(value, low, high, examples, scenes, seeds)
    draws.difference(after, before)     # paired: both come from the same scenes in every draw

Examples of one scene are not independent, so whole scenes are drawn, with all of their examples. A draw is
kept as a weight per example: how often its scene was drawn, times how often its seed was. Every statistic
takes such weights, which makes all comparisons within a `Bootstrap` paired.

Source: Efron and Tibshirani 1993, the percentile interval, with scenes (and seeds, crossed) as the units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from conceptseg.errors import DataError

Array: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Array], Array]  # (draws, examples) weights -> (draws,) values

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and what it rests on; NaN where nothing can be said."""

    value: float
    low: float
    high: float
    examples: int
    scenes: int
    seeds: int = 1

    def above(self, bound: float = 0.0) -> bool:
        """The whole interval lies above."""
        return self.low > bound

    def below(self, bound: float = 0.0) -> bool:
        """The whole interval lies below."""
        return self.high < bound


class Bootstrap:
    """Draws of scenes and seeds, the same for every statistic that is asked of it."""

    def __init__(
        self,
        scenes: Sequence[Hashable],
        seeds: Sequence[Hashable] | None = None,
        *,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        """Args:
        scenes: of each example, its scene.
        seeds: of each example, the training seed of the model that gave it; None: one model.
        draws: how many.
        seed: of the draws.

        Raises:
            DataError: there is no example, or the two disagree in length.
        """
        if not len(scenes) or (seeds is not None and len(seeds) != len(scenes)):
            raise DataError(
                f"{len(scenes)} examples, and seeds of {0 if seeds is None else len(seeds)}; an interval "
                "needs one example or more, with a seed each or none"
            )
        rng = np.random.default_rng(seed)
        self._scenes, by_scene = _draw(scenes, draws, rng)
        self._seeds = np.zeros(len(scenes), np.int64)
        weights = by_scene
        if seeds is not None:
            self._seeds, by_seed = _draw(seeds, draws, rng)
            weights = by_scene * by_seed
        self._weights = np.concatenate((np.ones((1, len(scenes))), weights))  # the first: as measured

    def of(self, statistic: Statistic, counted: NDArray[np.bool_] | None = None) -> Estimate:
        """Any statistic.

        Args:
            statistic: (draws, examples) weights in, (draws,) values out.
            counted: (examples,), those that the statistic rests on; None for all.
        """
        used = np.ones(len(self._scenes), bool) if counted is None else counted
        examples = int(used.sum())
        scenes, seeds = len(np.unique(self._scenes[used])), len(np.unique(self._seeds[used]))
        if not examples:
            return Estimate(np.nan, np.nan, np.nan, 0, 0, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            value, *drawn = statistic(self._weights)
        known = np.asarray(drawn)[np.isfinite(drawn)]  # a draw may hold none of the examples that count
        low, high = (np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])) if len(known) else (np.nan,) * 2
        return Estimate(float(value), float(low), float(high), examples, scenes, seeds)

    def mean(self, values: Any) -> Estimate:
        """Mean over examples; those that are None or NaN do not count."""
        x = numbers(values)
        known = np.isfinite(x)
        return self.of(weighted_mean(x), known)

    def difference(self, first: Any, second: Any) -> Estimate:
        """Mean of first - second over the examples that have both."""
        return self.mean(numbers(first) - numbers(second))

    def ratio(self, numerators: Any, denominators: Any) -> Estimate:
        """Sum of one over the sum of the other, over the examples that have both."""
        return self.of(weighted_ratio(numerators, denominators), _both(numerators, denominators))


def points(estimate: Estimate) -> Estimate:
    """In hundredths, as cgF1 is read."""
    value, low, high = (100 * it for it in (estimate.value, estimate.low, estimate.high))
    return dataclasses.replace(estimate, value=value, low=low, high=high)


def numbers(values: Any) -> Array:
    """A column as numbers: True is 1, None is NaN."""
    return np.asarray(values, dtype=np.float64)


def weighted_mean(values: Any) -> Statistic:
    """The statistic of `Bootstrap.mean`."""
    x = numbers(values)
    return weighted_ratio(x, np.where(np.isfinite(x), 1.0, np.nan))


def weighted_ratio(numerators: Any, denominators: Any) -> Statistic:
    """The statistic of `Bootstrap.ratio`."""
    known = _both(numerators, denominators)
    top, bottom = numbers(numerators)[known], numbers(denominators)[known]

    def statistic(weights: Array) -> Array:
        result: Array = (weights[:, known] @ top) / (weights[:, known] @ bottom)
        return result

    return statistic


def _both(first: Any, second: Any) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = np.isfinite(numbers(first)) & np.isfinite(numbers(second))
    return known


def _draw(units: Sequence[Hashable], draws: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    """(examples,) number of each one's unit, and (draws, examples) how often that unit was drawn."""
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    index = np.array([number[unit] for unit in units])
    count = len(number)
    counts = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return index, counts[:, index].astype(np.float64)
