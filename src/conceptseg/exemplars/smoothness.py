"""How smoothly a loss falls, and when a target is reached, from the log of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

WINDOW = 15  # logged steps of the moving mean that is the trend
LOOKS = 3  # validations that a target has to be reached in, on average


def roughness(losses: Sequence[float], window: int = WINDOW) -> float:
    """Variance of the loss around its moving mean, over the square of its mean: 0 is smooth.

    Relative, because runs with more losses have a larger total. NaN for fewer than three windows.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 3 * window:
        return math.nan
    trend = np.convolve(values, np.ones(window) / window, mode="valid")
    half = window // 2
    rest = values[half : half + len(trend)] - trend
    return float(rest.var() / values.mean() ** 2)


def steps_to(curve: Sequence[Sequence[float]], target: float, looks: int = LOOKS) -> float:
    """The first step at which the mean of the last few values is at least the target; NaN if it never is.

    A single value of a few dozen pictures goes up and down by a tenth of itself, and would reach the target
    by chance.

    Args:
        curve: (step, value) in order.
        target: of the mean.
        looks: values that the mean is taken of.
    """
    for end in range(looks, len(curve) + 1):
        if np.mean([value for _, value in curve[end - looks : end]]) >= target:
            return float(curve[end - 1][0])
    return math.nan
