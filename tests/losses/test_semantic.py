from __future__ import annotations

import math

import pytest
import torch

from conceptseg.losses.semantic import semantic_losses


def test_only_pairs_that_count_are_averaged() -> None:
    # half foreground at p = 0.5: focal (0.6 + 0.4) / 2 * 0.5^2 * ln 2; dice 1 - (2 * 1 + 1) / (2 + 2 + 1)
    union = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    logits = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 9.0)])  # the second pair is badly wrong
    focal, dice = semantic_losses(logits, union, torch.tensor([True, False]))
    assert focal.item() == pytest.approx(0.125 * math.log(2), rel=1e-5)
    assert dice.item() == pytest.approx(0.4, rel=1e-5)


def test_no_pair_that_counts_gives_zero_not_nan() -> None:
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    focal, dice = semantic_losses(logits, torch.zeros(2, 4, 4), torch.tensor([False, False]))
    (focal + dice).backward()
    assert focal.item() == dice.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_semantic_logits_are_resized_to_the_target() -> None:
    union = torch.ones(1, 8, 8)
    focal, _ = semantic_losses(torch.zeros(1, 1, 4, 4), union, torch.tensor([True]))
    assert focal.item() == pytest.approx(0.6 * 0.25 * math.log(2), rel=1e-5)
