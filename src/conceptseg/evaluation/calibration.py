"""Fit presence = sigmoid(scale x logit + offset), from labels or from a teacher's answers alone.

Both fits are one logistic regression with soft targets, which is convex; they differ in the targets.

- From labels: present or absent, the two kinds weighing the same whatever their numbers. Targets are drawn in
  a little (Platt 1999), so that pairs that can be told apart without an error ask for no infinite scale.
- Without labels, the student's distribution of presence is matched to the teacher's on the same pairs: the
  student's k-th highest logit gets the teacher's k-th highest presence as its target ("ranks"). So as many
  pairs pass as with the teacher, and matching happens where presence decides something, not in the tails. The
  alternative ("pairs") gives each pair the teacher's presence for that very pair; where the two disagree it
  hedges, and presence moves towards the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from conceptseg.choices import Matching
from conceptseg.errors import DataError
from conceptseg.evaluation.presence_metrics import presence_auroc
from conceptseg.models.config import PresenceCalibration

LEAST_PAIRS = 10  # fewer say nothing about two numbers
LEAST_SCALE = 1e-4


def fit_to_labels(
    logits: Sequence[float], present: Sequence[bool], offset_only: bool = False
) -> PresenceCalibration:
    """Fit on labelled pairs.

    Args:
        logits: raw presence logits, one per pair.
        present: whether the concept is there.
        offset_only: keep the scale at 1.

    Raises:
        DataError: too few pairs, one kind is missing, or the logits rank the wrong way.
    """
    x, flags = np.asarray(logits, float), np.asarray(present, bool)
    _check_count(x)
    positives, negatives = int(flags.sum()), int((~flags).sum())
    if not positives or not negatives:
        kind = "present" if not positives else "absent"
        raise DataError(f"no pair is {kind}; a calibration is fitted on present and absent phrases")
    auroc = presence_auroc(x, flags)
    if auroc <= 0.5:
        raise DataError(
            f"presence ranks no better than chance (AUROC {auroc:.3f}), which no calibration can mend; "
            "use --method finetune or distil"
        )
    targets = np.where(flags, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weights = np.where(flags, 0.5 / positives, 0.5 / negatives)
    return _fit(x, targets, weights, offset_only)


def fit_to_teacher(
    student: Sequence[float],
    teacher: Sequence[float],
    offset_only: bool = False,
    matching: Matching = "ranks",
) -> PresenceCalibration:
    """Fit on unlabelled pairs that a teacher has answered too.

    Args:
        student: raw presence logits, one per pair.
        teacher: the teacher's presence for the same pairs, 0 to 1.
        offset_only: keep the scale at 1.
        matching: "ranks" or "pairs".

    Raises:
        DataError: too few pairs, or the two rank pairs the opposite way.
    """
    x, targets = np.asarray(student, float), np.asarray(teacher, float)
    if x.shape != targets.shape:
        raise DataError(f"{len(x)} answers of the student do not fit {len(targets)} of the teacher")
    _check_count(x)
    if matching == "ranks":
        x, targets = np.sort(x), np.sort(targets)
    return _fit(x, targets, np.full(len(x), 1 / len(x)), offset_only)


def _check_count(x: NDArray[np.float64]) -> None:
    if len(x) < LEAST_PAIRS:
        raise DataError(f"{len(x)} pairs are too few to fit a calibration; ask at least {LEAST_PAIRS}")
    if not np.isfinite(x).all():
        raise DataError("some presence logits are not finite")


def _fit(
    x: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64], offset_only: bool
) -> PresenceCalibration:
    """Weighted logistic regression on soft targets, in standardised logits so that it is well conditioned."""
    centre, spread = float(x.mean()), max(float(x.std()), 1e-6)
    z = (x - centre) / spread

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale = spread if offset_only else parameters[1]
        logits = scale * z + parameters[0]
        value = float((weights * (np.logaddexp(0, logits) - targets * logits)).sum())
        error = weights * (expit(logits) - targets)
        gradient = [error.sum()] if offset_only else [error.sum(), (error * z).sum()]
        return value, np.array(gradient)

    bounds = [(None, None)] if offset_only else [(None, None), (LEAST_SCALE * spread, None)]
    start = np.zeros(1) if offset_only else np.array([0.0, 1.0])
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    scale = 1.0 if offset_only else float(found[1]) / spread
    return PresenceCalibration(scale=scale, offset=float(found[0]) - scale * centre)
