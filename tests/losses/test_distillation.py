"""Distillation losses: zero where student and teacher agree, worked by hand where they do not."""

from __future__ import annotations

import math

import pytest
import torch

from conceptseg.errors import ShapeError
from conceptseg.losses.distillation import (
    best_queries,
    distil_boxes,
    distil_classes,
    distil_masks,
    distil_presence,
    divergence,
    feature_losses,
    map_losses,
)


def test_equal_features_cost_nothing() -> None:
    features = torch.randn(2, 5, 8)
    error, cosine = feature_losses(features, features)
    assert (float(error), float(cosine)) == pytest.approx((0, 0), abs=1e-6)


def test_features_twice_as_large_have_the_right_direction_and_an_error_of_one() -> None:
    teacher = torch.randn(4, 8)
    error, cosine = feature_losses(2 * teacher, teacher)
    assert float(error) == pytest.approx(1, abs=1e-5)
    assert float(cosine) == pytest.approx(0, abs=1e-5)


def test_the_scale_of_the_teacher_does_not_change_the_loss() -> None:
    student, teacher = torch.randn(4, 8), torch.randn(4, 8)
    small, large = feature_losses(student, teacher), feature_losses(100 * student, 100 * teacher)
    assert torch.allclose(torch.stack(small), torch.stack(large), rtol=1e-4)


def test_padding_costs_nothing_and_gets_no_gradient() -> None:
    student = torch.randn(1, 3, 4, requires_grad=True)
    teacher = torch.randn(1, 3, 4)
    padding = torch.tensor([[False, False, True]])
    padded = feature_losses(student, teacher, padding)
    alone = feature_losses(student[:, :2], teacher[:, :2])
    assert torch.allclose(torch.stack(padded), torch.stack(alone))
    torch.stack(padded).sum().backward()
    assert student.grad is not None and student.grad[0, 2].abs().max() == 0 < student.grad[0, 1].abs().max()


def test_nothing_but_padding_is_zero_and_not_nan() -> None:
    both = feature_losses(torch.randn(1, 2, 4), torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))
    assert torch.stack(both).tolist() == [0, 0]


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    loss = torch.stack(feature_losses(student, teacher)).sum() + divergence(student, teacher).sum()
    loss.backward()
    assert teacher.grad is None


def test_maps_of_another_size_are_compared_at_the_students() -> None:
    teacher = torch.randn(1, 4, 1, 1).expand(1, 4, 8, 8)
    error, cosine = map_losses(teacher[..., :4, :4].clone(), teacher)
    assert (float(error), float(cosine)) == pytest.approx((0, 0), abs=1e-5)


def test_divergence_is_the_nats_lost_by_believing_the_student() -> None:
    # The teacher says 1/2, the student 1/4: log 2 - log(4)/2 - log(4/3)/2, from H(p, q) - H(p).
    student = torch.tensor([math.log(1 / 3)])
    expected = 0.5 * math.log(4) + 0.5 * math.log(4 / 3) - math.log(2)
    assert float(divergence(student, torch.zeros(1))) == pytest.approx(expected, rel=1e-5)
    assert float(divergence(student, student)) == pytest.approx(0, abs=1e-7)


def test_a_collapsed_presence_is_pulled_up_whatever_the_depth() -> None:
    student = torch.full((2, 3), -11.05, requires_grad=True)
    distil_presence(student, torch.full((2, 3), 4.0)).backward()
    assert student.grad is not None and (student.grad < 0).all()


def test_classes_are_summed_over_queries_so_that_few_are_heard_among_many() -> None:
    teacher = torch.zeros(1, 4, 2)
    student = teacher.clone()
    student[0, 0, 0] = 3.0
    one = float(divergence(torch.tensor(3.0), torch.tensor(0.0)))
    assert float(distil_classes(student, teacher)) == pytest.approx(one / 2)  # mean over two pairs


def test_boxes_of_queries_that_mean_nothing_do_not_count() -> None:
    teacher = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(1, 2, 1, 4)
    student = teacher.clone()
    student[0, 1, 0, 0] = 0.9
    l1, giou = distil_boxes(student, teacher, torch.tensor([[1.0], [0.0]]))
    assert (float(l1), float(giou)) == pytest.approx((0, 0), abs=1e-6)
    l1, _ = distil_boxes(student, teacher, torch.tensor([[1.0], [1.0]]))
    assert float(l1) == pytest.approx(0.2)


def test_masks_cost_nothing_where_equal_and_more_where_opposite() -> None:
    # Saturated, so that soft masks are as good as hard ones; four pixels on, four off.
    teacher = torch.tensor([[20.0, -20.0]] * 4).view(1, 1, 4, 2)
    pixelwise, dice = distil_masks(teacher, teacher, torch.ones(1, 1))
    assert (float(pixelwise), float(dice)) == pytest.approx((0, 0), abs=1e-6)
    pixelwise, dice = distil_masks(-teacher, teacher, torch.ones(1, 1))
    assert float(pixelwise) == pytest.approx(20, abs=1e-3)
    assert float(dice) == pytest.approx(1 - 1 / 9)


def test_a_coarser_student_learns_masks_of_the_teachers_area() -> None:
    y, x = torch.meshgrid(torch.arange(56) - 27.5, torch.arange(56) - 27.5, indexing="ij")
    inside = x.square() + y.square() < 9**2
    teacher = torch.where(inside, 2.0, -8.0)[None, None]  # surer of the outside, as masks are
    student = torch.zeros(1, 1, 40, 40, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.2)
    for _ in range(150):
        pixelwise, dice = distil_masks(student, teacher, torch.ones(1, 1))
        optimiser.zero_grad()
        (20 * pixelwise + 5 * dice).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    read = torch.nn.functional.interpolate(student.detach(), (256, 256), mode="bilinear") > 0
    area = float(read.sum()) * (56 / 256) ** 2 / float(inside.sum())
    assert area == pytest.approx(1, abs=0.05)


def test_the_best_queries_are_those_the_teacher_scores_highest() -> None:
    index, scores = best_queries(torch.tensor([[0.0, 5.0], [2.0, -1.0], [1.0, 3.0]]), 2)
    assert index.tolist() == [[1, 2], [0, 2]]
    assert float(scores[0, 0]) == pytest.approx(1 / (1 + math.exp(-2)))
    assert best_queries(torch.zeros(3, 1), 8)[0].shape == (1, 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        feature_losses(torch.zeros(2, 4), torch.zeros(2, 5))
    with pytest.raises(ShapeError, match="do not fit"):
        distil_classes(torch.zeros(1, 3, 2), torch.zeros(1, 4, 2))
    with pytest.raises(ShapeError, match="do not fit"):
        distil_boxes(torch.zeros(1, 3, 2, 4), torch.zeros(1, 4, 2, 4), torch.zeros(3, 2))
