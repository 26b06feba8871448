"""Levels of the neck."""

from __future__ import annotations

import pytest
import torch

from conceptseg.errors import ConfigError
from conceptseg.models.vision.neck import Neck


def test_one_map_becomes_levels_from_fine_to_coarse_without_the_last() -> None:
    neck = Neck((16,), 8, (4.0, 2.0, 1.0, 0.5), drop_last=1, per_level=False)
    levels = neck([torch.randn(2, 16, 6, 6)])
    assert [tuple(level.shape) for level in levels] == [(2, 8, 24, 24), (2, 8, 12, 12), (2, 8, 6, 6)]


def test_a_level_that_nobody_reads_still_has_its_weights() -> None:
    neck = Neck((16,), 8, (4.0, 2.0, 1.0, 0.5), drop_last=1, per_level=False)
    assert len(neck.branches) == 4


def test_a_trunk_of_several_maps_gives_one_level_each() -> None:
    neck = Neck((16, 12), 8, (1.0, 1.0), drop_last=0, per_level=True)
    levels = neck([torch.randn(1, 16, 8, 8), torch.randn(1, 12, 4, 4)])
    assert [tuple(level.shape) for level in levels] == [(1, 8, 8, 8), (1, 8, 4, 4)]


def test_scales_that_do_not_match_the_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 levels, the vision encoder gives 2 maps"):
        Neck((16, 16), 8, (1.0, 1.0, 1.0), drop_last=0, per_level=True)
    with pytest.raises(ConfigError, match="holds 3.0; choose 4, 2, 1 or 0.5"):
        Neck((16,), 8, (3.0,), drop_last=0, per_level=False)
