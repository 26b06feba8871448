"""How smoothly a loss falls, and when a target is reached, from the log of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

WINDOW = 15  # logged steps of the moving mean that is the trend


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


def steps_to(lines: Sequence[dict[str, Any]], name: str, target: float) -> float:
    """The first logged step at which a validation value is at least the target; NaN if it never is."""
    for line in lines:
        if line.get("kind") == "validation" and line.get(name, -math.inf) >= target:
            return float(line["step"])
    return math.nan
