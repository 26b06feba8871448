"""Alignment of regions and prompts: what is pooled, and which way each prompt pulls."""

from __future__ import annotations

import math

import pytest
import torch

from conceptseg.losses.regions import region_features, region_loss


def test_a_region_is_the_mean_under_its_mask() -> None:
    level = torch.arange(8.0).view(1, 2, 2, 2)  # channels 0..3 and 4..7
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = True  # the first cell
    masks[1] = True  # all four
    masks[2, :2, 2:] = True  # the second cell, and half of the first
    masks[2, :2, 1] = True
    features = region_features(level, masks, torch.zeros(3, dtype=torch.long))
    expected = torch.tensor([[0.0, 4.0], [1.5, 5.5], [2 / 3, 14 / 3]])
    assert torch.allclose(features, expected)


def test_an_empty_mask_gives_zero_and_not_nan() -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert torch.equal(
        region_features(torch.ones(1, 2, 2, 2), masks, torch.zeros(1, dtype=torch.long)), torch.zeros(1, 2)
    )


def test_regions_read_their_own_image() -> None:
    level = torch.stack([torch.zeros(2, 2, 2), torch.ones(2, 2, 2)])
    features = region_features(level, torch.ones(2, 4, 4, dtype=torch.bool), torch.tensor([1, 0]))
    assert features[:, 0].tolist() == [1.0, 0.0]


def test_the_loss_by_hand() -> None:
    """Prompt 0: one true, one false, one unclear object. Prompt 1: only false ones."""
    logits = torch.tensor([[2.0, -1.0, 50.0], [0.5, 0.5, 50.0]])
    truth = torch.tensor([[1, 0, -1], [0, 0, -1]], dtype=torch.int8)
    yes = math.log1p(math.exp(-2.0))
    no = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(0.5))) / 2
    assert region_loss(logits, truth).item() == pytest.approx(yes + no, rel=1e-5)


def test_nothing_known_is_no_loss_and_still_differentiable() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = region_loss(logits, torch.full((2, 3), -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0 and logits.grad is not None and torch.equal(logits.grad, torch.zeros(2, 3))


def test_many_false_objects_weigh_no_more_than_one_true_one() -> None:
    few = region_loss(torch.zeros(1, 2), torch.tensor([[1, 0]]))
    many = region_loss(torch.zeros(1, 101), torch.tensor([[1] + [0] * 100]))
    assert few.item() == pytest.approx(many.item())
