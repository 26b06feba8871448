from __future__ import annotations

import math

import pytest
import torch

from conceptseg.errors import ShapeError
from conceptseg.losses.presence import presence_loss


def test_an_undecided_presence_costs_half_of_ln_2() -> None:
    loss = presence_loss(torch.zeros(2, 3), torch.tensor([True, False, True]))
    torch.testing.assert_close(loss, torch.full((2,), 0.5 * math.log(2)))


def test_certain_presence_costs_only_where_it_is_wrong() -> None:
    # logit 30 on a present and an absent pair: BCE 0 and 30; half of their mean is 7.5
    assert presence_loss(torch.full((1, 2), 30.0), torch.tensor([True, False])).item() == pytest.approx(7.5)


def test_presence_of_another_number_of_pairs_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\) do not fit present \(4,\)"):
        presence_loss(torch.zeros(2, 3), torch.ones(4, dtype=torch.bool))
