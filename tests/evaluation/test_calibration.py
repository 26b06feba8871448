"""Calibration: what was put in comes out, labels or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from conceptseg.errors import DataError
from conceptseg.evaluation.calibration import fit_to_labels, fit_to_teacher

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, 4000)
PRESENT = RNG.random(4000) < expit(LOGITS)  # so LOGITS are calibrated as they are
COLLAPSED = 0.5 * LOGITS - 11.05


def test_labels_give_back_the_scale_and_offset_that_collapsed_them() -> None:
    found = fit_to_labels(COLLAPSED, PRESENT)
    assert found.scale == pytest.approx(2, rel=0.1)
    assert found.scale * -11.05 + found.offset == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("matching", ["ranks", "pairs"])
def test_a_teacher_gives_them_back_without_a_label(matching: str) -> None:
    found = fit_to_teacher(COLLAPSED, expit(LOGITS), matching=matching)  # type: ignore[arg-type]
    assert (found.scale, found.offset) == pytest.approx((2, 22.1), rel=1e-3)


def test_an_offset_alone_keeps_the_scale() -> None:
    found = fit_to_teacher(LOGITS - 11.05, expit(LOGITS), offset_only=True)
    assert (found.scale, found.offset) == pytest.approx((1, 11.05), rel=1e-3)
    found = fit_to_labels(LOGITS - 11.05, PRESENT, offset_only=True)
    assert found.scale == 1 and found.offset == pytest.approx(11.05, abs=0.15)


def test_ranks_keep_the_share_that_passes_where_pairs_disagree_and_pairs_hedge() -> None:
    noisy = COLLAPSED + RNG.normal(0, 2, len(COLLAPSED))
    teacher = expit(LOGITS)
    ranks, pairs = (fit_to_teacher(noisy, teacher, matching=kind) for kind in ("ranks", "pairs"))  # type: ignore[arg-type]
    sure = {name: (expit(fit.scale * noisy + fit.offset) > 0.8).mean() for name, fit in
            (("ranks", ranks), ("pairs", pairs))}  # fmt: skip
    assert sure["ranks"] == pytest.approx((teacher > 0.8).mean(), abs=0.02)
    assert sure["pairs"] < 0.5 * sure["ranks"]


def test_many_absent_pairs_do_not_drown_few_present_ones() -> None:
    few = np.r_[np.flatnonzero(PRESENT)[:100], np.flatnonzero(~PRESENT)]
    found = fit_to_labels(COLLAPSED[few], PRESENT[few])
    # Present and absent weigh the same, so the answer is that of equal numbers: about one half at the middle.
    assert expit(found.scale * -11.05 + found.offset) == pytest.approx(0.5, abs=0.1)


def test_separable_pairs_get_a_finite_scale() -> None:
    found = fit_to_labels([-12.0] * 10 + [-10.0] * 10, [False] * 10 + [True] * 10)
    assert 1 < found.scale < 100
    assert expit(found.scale * -10 + found.offset) == pytest.approx(11 / 12, abs=1e-3)


def test_a_tiny_spread_is_no_obstacle() -> None:
    found = fit_to_labels(1e-3 * LOGITS - 11, PRESENT)
    assert found.scale == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize(
    ("logits", "present", "words"),
    [
        ([0.0, 1.0], [False, True], "2 pairs are too few"),
        (list(range(12)), [True] * 12, "no pair is absent"),
        (list(range(12)), [False] * 12, "no pair is present"),
        (list(range(12)), [True] * 6 + [False] * 6, "AUROC 0.000"),
        ([float("nan")] * 12, [True, False] * 6, "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(logits: list[float], present: list[bool], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_to_labels(logits, present)


def test_answers_that_do_not_correspond_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        fit_to_teacher([0.0] * 12, [0.5] * 11)
