"""How far features drift: worked by hand, and independent of how they are handed in."""

from __future__ import annotations

import math

import pytest
import torch

from conceptseg.errors import ShapeError
from conceptseg.presence.features import FeatureComparison, FeatureDrift


def compare(student: torch.Tensor, teacher: torch.Tensor) -> FeatureDrift:
    comparison = FeatureComparison()
    comparison.add(student, teacher)
    drift = comparison.result()
    assert drift is not None
    return drift


def test_equal_features_have_not_drifted() -> None:
    features = torch.randn(50, 6)
    drift = compare(features, features)
    assert drift.cosine == pytest.approx(1)
    assert drift.cka == pytest.approx(1)
    assert (drift.relative_error, drift.mean_shift) == (0, 0)
    assert drift.variance_shift == pytest.approx(0, abs=1e-9)


def test_figures_of_two_tokens_are_those_worked_by_hand() -> None:
    # Per channel the teacher has means 1, 0 and variances 1, 4; the student 2, 0 and 1, 1.
    teacher = torch.tensor([[0.0, 2.0], [2.0, -2.0]])
    student = torch.tensor([[1.0, 1.0], [3.0, -1.0]])
    drift = compare(student, teacher)
    cosines = [2 / (2 * math.sqrt(2)), (6 + 2) / (math.sqrt(8) * math.sqrt(10))]
    assert drift.cosine == pytest.approx(sum(cosines) / 2)
    assert drift.relative_error == pytest.approx(math.sqrt(4 / 12))
    assert drift.mean_shift == pytest.approx(math.sqrt(0.5))  # (1 / 1)^2 and (0 / 2)^2, mean, root
    assert drift.variance_shift == pytest.approx(1.0)  # a factor of 1 and one of 4: 0 and 2 doublings
    assert drift.variance_ratio == pytest.approx(2 / 5)


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    features = torch.randn(200, 5, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    drift = compare(3 * features @ rotation + 7, features)
    assert drift.cka == pytest.approx(1)
    assert drift.relative_error is not None and drift.relative_error > 1


def test_unrelated_features_have_a_low_cka() -> None:
    torch.manual_seed(0)
    assert compare(torch.randn(2000, 4), torch.randn(2000, 4)).cka < 0.05


def test_other_channel_counts_leave_only_what_needs_no_correspondence() -> None:
    torch.manual_seed(0)
    features = torch.randn(100, 8)
    drift = compare(features[:, :4], features)
    assert (drift.student_channels, drift.teacher_channels) == (4, 8)
    assert drift.cosine is drift.relative_error is drift.mean_shift is drift.variance_shift is None
    assert 0.3 < drift.cka < 1


def test_images_one_by_one_give_what_all_at_once_give() -> None:
    student, teacher = torch.randn(90, 7) + 5, torch.randn(90, 7)
    parts = FeatureComparison()
    for start in range(0, 90, 30):
        parts.add(student[start : start + 30], teacher[start : start + 30])
    together, apart = compare(student, teacher), parts.result()
    assert apart is not None and apart.to_dict() == pytest.approx(together.to_dict())


def test_nothing_added_is_nothing_found() -> None:
    assert FeatureComparison().result() is None


def test_other_tokens_are_refused() -> None:
    with pytest.raises(ShapeError, match="same tokens"):
        FeatureComparison().add(torch.zeros(3, 2), torch.zeros(4, 2))
    comparison = FeatureComparison()
    comparison.add(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="before"):
        comparison.add(torch.zeros(3, 4), torch.zeros(3, 4))
