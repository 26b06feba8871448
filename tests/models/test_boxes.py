"""Box formats by hand."""

from __future__ import annotations

import math

import torch

from conceptseg.models.boxes import cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh


def test_centre_and_size_become_corners_and_back() -> None:
    centre = torch.tensor([[0.5, 0.25, 0.2, 0.1]])
    corners = torch.tensor([[0.4, 0.2, 0.6, 0.3]])
    torch.testing.assert_close(cxcywh_to_xyxy(centre), corners)
    torch.testing.assert_close(xyxy_to_cxcywh(corners), centre)


def test_inverse_sigmoid_undoes_the_sigmoid_within_its_limits() -> None:
    logits = torch.linspace(-6, 6, 13)
    torch.testing.assert_close(inverse_sigmoid(logits.sigmoid()), logits, atol=1e-4, rtol=0)


def test_inverse_sigmoid_keeps_both_odds_above_a_thousandth() -> None:
    values = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0, 0.9995]))
    # log(0.001 / 1), log(1 / 0.001), and log(0.9995 / 0.001): only the smaller of the two odds is raised.
    expected = [-math.log(1000), -math.log(1000), math.log(1000), math.log(1000), math.log(999.5)]
    torch.testing.assert_close(values, torch.tensor(expected))
