from __future__ import annotations

import math

import pytest
import torch

from conceptseg.errors import ConfigError
from conceptseg.losses.masks import (
    MaskLossConfig,
    dice_loss,
    focal_loss,
    mask_losses,
    sample_points,
    uncertain_points,
)

LN2 = math.log(2)


def test_focal_loss_of_undecided_pixels() -> None:
    # at p = 0.5: foreground 0.25 * 0.5^2 * ln 2, background 0.75 * 0.5^2 * ln 2
    loss = focal_loss(
        torch.zeros(3, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]), alpha=0.25, gamma=2
    )
    torch.testing.assert_close(loss, torch.tensor([0.0625, 0.1875, 0.125]) * LN2)


def test_dice_loss_of_undecided_pixels() -> None:
    # sum pg = 1, sum p = 2, sum g = 2: 1 - (2 + 1) / (2 + 2 + 1)
    loss = dice_loss(torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(0.4)


def test_whole_maps_are_compared_at_the_resolution_of_the_target() -> None:
    logits = torch.zeros(1, 2, 2)
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    target[:, :, :2] = 1
    focal, dice = mask_losses(logits, target)
    assert focal.item() == pytest.approx(0.125 * LN2)
    assert dice.item() == pytest.approx(1 - (2 * 4 + 1) / (8 + 8 + 1))


def test_points_on_pixel_centres_read_the_pixels() -> None:
    maps = torch.arange(4.0).view(1, 2, 2)
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.0, 0.0]]])
    torch.testing.assert_close(sample_points(maps, points), torch.tensor([[0.0, 1.0, 2.0, 1.5, 0.0]]))


def test_points_gather_where_the_mask_is_uncertain() -> None:
    logits = torch.linspace(-10, 10, 64).expand(2, 64, 64)  # undecided along the middle column
    torch.manual_seed(0)
    points = uncertain_points(logits, num_points=400, oversample=3, importance=0.75)
    assert points.shape == (2, 400, 2)
    assert points.min() >= 0 and points.max() <= 1
    # The 300 least certain of 1,200 even candidates lie within 300 / 1,200 / 2 = 0.125 of the middle, about.
    distance = (points[..., 0] - 0.5).abs()
    assert (distance[:, :300] < 0.16).all()
    assert distance[:, 300:].max() > 0.4


def test_points_on_a_constant_mask_give_the_loss_of_the_whole_map() -> None:
    logits, target = torch.full((2, 8, 8), 0.7), torch.ones(2, 16, 16)
    whole, _ = mask_losses(logits, target)
    points, _ = mask_losses(logits, target, MaskLossConfig(num_points=32))
    torch.testing.assert_close(points, whole)


@pytest.mark.parametrize("num_points", [None, 16])
def test_no_masks_give_no_loss_and_a_zero_gradient(num_points: int | None) -> None:
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    focal, dice = mask_losses(logits, torch.zeros(0, 8, 8), MaskLossConfig(num_points=num_points))
    (focal.sum() + dice.sum()).backward()
    assert focal.shape == dice.shape == (0,)


def test_mask_loss_gradients_agree_with_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 5, 5, generator=generator) > 0.5
    assert torch.autograd.gradcheck(lambda value: mask_losses(value, target), logits)


def test_impossible_point_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_points = 0"):
        MaskLossConfig(num_points=0)
    with pytest.raises(ConfigError, match="oversample = 0.5"):
        MaskLossConfig(oversample=0.5)
    with pytest.raises(ConfigError, match="importance = 2"):
        MaskLossConfig(importance=2)
