"""Presence metrics: does the presence score rank present above absent, and is it a probability?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from conceptseg.errors import DataError


def presence_auroc(
    presence: Sequence[float] | NDArray[np.floating], present: Sequence[bool] | NDArray[np.bool_]
) -> float:
    """Chance that a random present pair scores above a random absent one; ties count half.

    Args:
        presence: one score per pair; probabilities or logits, only the order matters.
        present: one flag per pair.

    Returns:
        0..1, 0.5 for chance; NaN where one of the two kinds is missing, because there is nothing to rank.

    Raises:
        DataError: lengths differ, or a score is NaN.
    """
    scores, labels = _checked(presence, present)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)  # mean rank within ties
    # Mann-Whitney U of the positives, divided by the number of (positive, negative) couples.
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(
    presence: Sequence[float] | NDArray[np.floating],
    present: Sequence[bool] | NDArray[np.bool_],
    bins: int = 15,
) -> float:
    """How far the presence score is from the observed frequency of presence, on average.

    Args:
        presence: one probability per pair, 0..1.
        present: one flag per pair.
        bins: number of equal bins; a score on an edge belongs to the bin above it, 1.0 to the last.

    Returns:
        Sum over bins of (share of pairs) * |mean score - share present|, 0..1; NaN without any pair.

    Raises:
        DataError: lengths differ, or a score is NaN or outside 0..1.

    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, in its two-class form.
    """
    scores, labels = _checked(presence, present)
    if not len(scores):
        return float("nan")
    if scores.min() < 0 or scores.max() > 1:
        raise DataError(
            f"presence ranges over {scores.min():g}..{scores.max():g}; probabilities in 0..1 are needed"
        )
    index = np.minimum((scores * bins).astype(np.int64), bins - 1)
    gap = np.bincount(index, weights=scores - labels, minlength=bins)  # (bins,), count * (mean score - share)
    return float(np.abs(gap).sum() / len(scores))


def _checked(
    presence: Sequence[float] | NDArray[np.floating], present: Sequence[bool] | NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores, labels = np.asarray(presence, dtype=np.float64), np.asarray(present, dtype=bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise DataError(
            f"{scores.shape} presence scores do not fit {labels.shape} labels; both are one per pair"
        )
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).sum())} of {len(scores)} presence scores are NaN")
    return scores, labels
