from __future__ import annotations

import pytest
import torch

from conceptseg.losses.boxes import box_losses, box_overlap

LEFT = torch.tensor([0.25, 0.25, 0.5, 0.5])  # corners 0, 0, 0.5, 0.5
SHIFTED = torch.tensor([0.5, 0.25, 0.5, 0.5])  # corners 0.25, 0, 0.75, 0.5


def test_overlap_of_two_boxes_shifted_by_half_their_width_is_a_third() -> None:
    # intersection 0.25 x 0.5 = 0.125; union 0.25 + 0.25 - 0.125 = 0.375; the hull, 0.75 x 0.5, is the union
    iou, giou = box_overlap(LEFT, SHIFTED)
    assert iou.item() == pytest.approx(1 / 3)
    assert giou.item() == pytest.approx(1 / 3)


def test_generalised_overlap_of_opposite_corners_counts_the_empty_hull() -> None:
    # two 0.25 x 0.25 boxes in opposite corners: union 0.125, hull 1 -> 0 - (1 - 0.125) / 1
    iou, giou = box_overlap(
        torch.tensor([0.125, 0.125, 0.25, 0.25]), torch.tensor([0.875, 0.875, 0.25, 0.25])
    )
    assert iou.item() == 0
    assert giou.item() == pytest.approx(-0.875)


def test_overlap_broadcasts_to_every_pair_of_boxes() -> None:
    boxes = torch.stack([LEFT, SHIFTED])
    iou, _ = box_overlap(boxes[:, None], boxes[None])
    torch.testing.assert_close(iou, torch.tensor([[1, 1 / 3], [1 / 3, 1]]))


def test_losses_of_a_shifted_box_are_the_shift_and_one_minus_overlap() -> None:
    l1, giou = box_losses(LEFT[None], SHIFTED[None])
    assert l1.item() == pytest.approx(0.25)
    assert giou.item() == pytest.approx(2 / 3)


def test_boxes_without_area_have_finite_overlap_and_gradient() -> None:
    box = torch.tensor([[0.5, 0.5, 0.0, 0.0]], requires_grad=True)
    _, giou = box_losses(box, torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
    giou.sum().backward()
    assert torch.isfinite(giou).all()
    assert box.grad is not None and torch.isfinite(box.grad).all()


def test_box_loss_gradients_agree_with_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = (torch.rand(3, 4, generator=generator, dtype=torch.float64) * 0.4 + 0.2).requires_grad_()
    target = torch.rand(3, 4, generator=generator, dtype=torch.float64) * 0.4 + 0.2
    assert torch.autograd.gradcheck(lambda boxes: box_losses(boxes, target), predicted)
