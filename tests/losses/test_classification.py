from __future__ import annotations

import math

import pytest
import torch

from conceptseg.losses.classification import ClassificationConfig, iou_aware_bce
from conceptseg.losses.matcher import Matches

LN2 = math.log(2)
TWO = ClassificationConfig(pad_n_queries=2)  # so that two queries are averaged over two


def matched(*couples: tuple[int, int, int, int]) -> Matches:
    columns = torch.tensor(couples, dtype=torch.long).view(-1, 4).unbind(1)
    return Matches(*columns)


def test_loss_of_one_matched_and_one_unmatched_query() -> None:
    # both undecided: matched 10 * BCE(0, t) = 10 ln 2 for any t, unmatched ln 2 * 0.5^2; mean over two
    loss = iou_aware_bce(
        torch.zeros(1, 2, 1), matched((0, 0, 0, 0)), torch.ones(1), torch.tensor([True]), TWO
    )
    assert loss.item() == pytest.approx((10 * LN2 + 0.25 * LN2) / 2)


def test_fewer_queries_than_the_padding_are_averaged_as_if_padded() -> None:
    loss = iou_aware_bce(torch.zeros(1, 2, 1), matched((0, 0, 0, 0)), torch.ones(1), torch.tensor([True]))
    assert loss.item() == pytest.approx((10 * LN2 + 0.25 * LN2) / 200)


def test_soft_target_is_the_geometric_mix_of_score_and_overlap() -> None:
    # gradient of a positive is 10 (p - t) / 2 with p = 0.5 and t = 0.5^0.25 * 0.5^0.75 = 0.5: none at all
    logits = torch.zeros(1, 2, 1, requires_grad=True)
    iou_aware_bce(
        logits, matched((0, 0, 0, 0)), torch.tensor([0.5]), torch.tensor([True]), TWO
    ).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0].item() == pytest.approx(0, abs=1e-6)


def test_a_match_without_overlap_keeps_a_small_target() -> None:
    # p = 0.75 at logit ln 3; t = 0.01: BCE = ln(1 + 3) - 0.01 ln 3 = 1.375308
    logits = torch.full((1, 1, 1), math.log(3))
    config = ClassificationConfig(pad_n_queries=1)
    loss = iou_aware_bce(logits, matched((0, 0, 0, 0)), torch.zeros(1), torch.tensor([True]), config)
    assert loss.item() == pytest.approx(13.75308, rel=1e-5)


def test_gradient_flows_through_the_modulating_factor_of_unmatched_queries() -> None:
    # d/dz softplus(z) p^2 at z = 0: p^3 + softplus * 2 p * p (1 - p) = 0.125 + 0.25 ln 2; detached, 0.125
    logits = torch.zeros(1, 1, 1, requires_grad=True)
    config = ClassificationConfig(pad_n_queries=1)
    iou_aware_bce(logits, matched(), torch.zeros(0), torch.tensor([True]), config).sum().backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0.125 + 0.25 * LN2)


def test_an_absent_pair_teaches_nothing_but_counts_in_the_mean() -> None:
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss = iou_aware_bce(logits, matched((0, 0, 0, 0)), torch.ones(1), torch.tensor([True, False]), TWO)
    loss.sum().backward()
    assert loss.item() == pytest.approx((10 * LN2 + 0.25 * LN2) / 4)
    assert logits.grad is not None and not logits.grad[:, :, 1].any()


def test_a_query_matched_twice_learns_from_its_better_overlap() -> None:
    both = matched((0, 0, 0, 0), (0, 0, 0, 1))
    logits = torch.ones(1, 1, 1)
    present = torch.tensor([True])
    better = iou_aware_bce(logits, matched((0, 0, 0, 1)), torch.tensor([0.9]), present)
    for overlaps in ([0.2, 0.9], [0.9, 0.2]):
        torch.testing.assert_close(iou_aware_bce(logits, both, torch.tensor(overlaps), present), better)


def test_layers_are_kept_apart() -> None:
    logits = torch.zeros(2, 2, 1)
    loss = iou_aware_bce(logits, matched((1, 0, 0, 0)), torch.ones(1), torch.tensor([True]), TWO)
    torch.testing.assert_close(loss, torch.tensor([0.25 * LN2, (10 * LN2 + 0.25 * LN2) / 2]))
