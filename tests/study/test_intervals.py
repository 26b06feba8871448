"""Intervals of distributions whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conceptseg.errors import DataError
from conceptseg.study.intervals import Bootstrap, weighted_mean


def test_the_interval_of_a_mean_is_two_standard_errors_either_side() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, 400)
    it = Bootstrap(range(400)).mean(x)
    assert it.value == pytest.approx(x.mean()) and (it.examples, it.scenes, it.seeds) == (400, 400, 1)
    error = x.std() / math.sqrt(400)
    assert it.low == pytest.approx(x.mean() - 1.96 * error, abs=0.15 * error)
    assert it.high == pytest.approx(x.mean() + 1.96 * error, abs=0.15 * error)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    held = [
        it.low <= 1.0 <= it.high
        for it in (Bootstrap(range(60), draws=400).mean(rng.exponential(1.0, 60)) for _ in range(200))
    ]
    assert 0.88 <= np.mean(held) <= 0.98


def test_examples_of_one_scene_count_as_one() -> None:
    of_scenes = np.random.default_rng(2).normal(size=40)
    ten_times = np.repeat(of_scenes, 10)
    alone, repeated = (
        Bootstrap(range(40)).mean(of_scenes),
        Bootstrap(np.repeat(range(40), 10)).mean(ten_times),
    )
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    assert (repeated.examples, repeated.scenes) == (400, 40)


def test_seeds_that_disagree_widen_the_interval() -> None:
    scenes, seeds = np.tile(np.arange(100), 3), np.repeat([0, 1, 2], 100)
    noise = np.random.default_rng(3).normal(0, 0.1, 300)
    alike = Bootstrap(scenes.tolist(), seeds.tolist()).mean(noise)
    apart = Bootstrap(scenes.tolist(), seeds.tolist()).mean(noise + seeds)
    assert alike.seeds == apart.seeds == 3
    assert apart.high - apart.low > 1.0 > 20 * (alike.high - alike.low)
    assert apart.low < 0.5 and apart.high > 1.5


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(4)
    scene = rng.normal(0, 5, 200)  # what the two have in common
    draws = Bootstrap(range(200))
    change = draws.difference(scene + 0.3 + rng.normal(0, 0.1, 200), scene)
    assert change.above(0.25) and change.below(0.35) and not draws.mean(scene).above()


def test_a_ratio_is_that_of_the_sums_and_what_is_unknown_does_not_count() -> None:
    draws = Bootstrap(["a", "b", "c"])
    it = draws.ratio([1, 6, None], [2, 4, 9])
    assert it.value == pytest.approx(7 / 6) and it.examples == 2
    assert draws.mean([None, math.nan, 2.0]).value == 2.0
    nothing = draws.mean([None, None, None])
    assert math.isnan(nothing.value) and nothing.examples == 0 and not nothing.above() and not nothing.below()


def test_the_same_draws_give_the_same_interval() -> None:
    x = np.random.default_rng(5).random(30)
    one, other = (Bootstrap(range(30), seed=7).of(weighted_mean(x)) for _ in range(2))
    assert one == other != Bootstrap(range(30), seed=8).of(weighted_mean(x))


def test_no_example_is_an_error() -> None:
    with pytest.raises(DataError, match="needs one example or more"):
        Bootstrap([])
    with pytest.raises(DataError, match="seeds of 1"):
        Bootstrap([0, 1], [0])
