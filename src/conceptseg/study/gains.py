"""What one model finds more than another, when both were judged on the same pictures with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conceptseg.evaluation.cgf1 import cgf1_of
from conceptseg.study.intervals import Bootstrap, Estimate, points

Counts = Mapping[Any, Sequence[Sequence[int]]]  # seed -> counts of cgF1 of every picture


def cgf1_gain(after: Counts, before: Counts) -> Estimate | None:
    """cgF1 x 100 of one model less that of another, with its interval over pictures and seeds.

    Args:
        after: counts (`ConceptEvaluator.counts`) of the one, by seed, picture by picture.
        before: of the other, likewise; seeds that only one has are left out.

    Returns:
        The difference; None where they share no seed.
    """
    keys = [(seed, i) for seed in after if seed in before for i in range(len(after[seed]))]
    if not keys:
        return None
    own, base = (np.array([it[seed][i] for seed, i in keys]) for it in (after, before))
    draws = Bootstrap([i for _, i in keys], [seed for seed, _ in keys])
    return points(draws.of(lambda weights: cgf1_of(weights @ own) - cgf1_of(weights @ base)))


def gain_shown(gain: Estimate | None) -> str:
    """+2.1 [+0.4, +3.9]; a dash where there is none."""
    return "-" if gain is None else f"{gain.value:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
