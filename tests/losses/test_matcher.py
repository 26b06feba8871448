from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from conceptseg.errors import ConfigError, ShapeError, TrainingError
from conceptseg.losses.matcher import (
    MatchCosts,
    Matches,
    OneToManyConfig,
    _one_to_one_cost,
    hungarian_match,
    one_to_many_match,
)
from conceptseg.losses.targets import Targets

MakeTargets = Callable[..., Targets]


def couples(matches: Matches) -> set[tuple[int, int, int, int]]:
    columns = (matches.layer_index, matches.pair_index, matches.query_index, matches.target_index)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def random_predictions(layers: int, queries: int, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(layers, queries, pairs, generator=generator)
    return logits, torch.rand(layers, queries, pairs, 4, generator=generator) * 0.5 + 0.2


def test_cost_of_a_perfect_box_with_an_undecided_score(make_targets: MakeTargets) -> None:
    # L1 0; GIoU 1; at p = 0.5 the focal terms are 0.25 * 0.25 * ln 2 and 0.75 * 0.25 * ln 2
    # 2 * (-1) + 2 * (0.0625 - 0.1875) * ln 2 = -2 - 0.25 ln 2
    box = [0.5, 0.5, 0.2, 0.2]
    packed = make_targets([[box]]).pack()
    cost = _one_to_one_cost(torch.zeros(1, 1, 1), torch.tensor(box).view(1, 1, 1, 4), packed, MatchCosts())
    assert cost.shape == (1, 1, 1)
    assert cost.item() == pytest.approx(-2 - 0.25 * math.log(2))


def test_matching_takes_the_cheapest_total_not_the_nearest_first(make_targets: MakeTargets) -> None:
    # L1 of query 0 to both objects is 0.1; of query 1 it is 0.3 and 0.5: 0.1 + 0.3 beats 0.1 + 0.5
    targets = make_targets([[[0.6, 0.5, 0.1, 0.1], [0.4, 0.5, 0.1, 0.1]]])
    boxes = torch.tensor([[0.5, 0.5, 0.1, 0.1], [0.9, 0.5, 0.1, 0.1]])[:, None]  # (N, B, 4)
    matches = hungarian_match(torch.zeros(2, 1), boxes, targets, MatchCosts(giou=0, classification=0))
    assert couples(matches) == {(0, 0, 0, 1), (0, 0, 1, 0)}


def test_matching_all_layers_at_once_equals_matching_each(make_targets: MakeTargets) -> None:
    logits, boxes = random_predictions(layers=3, queries=6, pairs=3)
    targets = make_targets([[[0.3, 0.3, 0.2, 0.2], [0.6, 0.6, 0.3, 0.1]], [], [[0.5, 0.5, 0.9, 0.9]]])
    together = hungarian_match(logits, boxes, targets)
    assert len(together) == 9
    for layer in range(3):
        alone = hungarian_match(logits[layer], boxes[layer], targets)
        assert couples(together.of_layer(layer)) == couples(alone)


def test_padding_between_objects_is_never_matched(make_targets: MakeTargets) -> None:
    targets = make_targets([[[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]])
    targets.valid[0, 1] = False
    boxes = targets.boxes_cxcywh[0, :, None]  # queries exactly on the three slots
    assert couples(hungarian_match(torch.zeros(3, 1), boxes, targets)) == {(0, 0, 0, 0), (0, 0, 2, 2)}


def test_more_objects_than_queries_leaves_the_worst_objects_unmatched(make_targets: MakeTargets) -> None:
    targets = make_targets([[[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]])
    boxes = torch.tensor([[0.5, 0.5, 0.1, 0.1]])[:, None]
    assert couples(hungarian_match(torch.zeros(1, 1), boxes, targets)) == {(0, 0, 0, 1)}


@pytest.mark.parametrize("match", [hungarian_match, one_to_many_match])
def test_a_batch_without_objects_has_no_matches(
    match: Callable[..., Matches], make_targets: MakeTargets
) -> None:
    logits, boxes = random_predictions(layers=1, queries=4, pairs=2)
    assert len(match(logits[0], boxes[0], make_targets([[], []]))) == 0


@pytest.mark.parametrize("match", [hungarian_match, one_to_many_match])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_named(
    match: Callable[..., Matches], value: float, make_targets: MakeTargets
) -> None:
    logits, boxes = random_predictions(layers=1, queries=4, pairs=1)
    boxes[0, 2, 0, 3] = value
    with pytest.raises(TrainingError, match="1 of 16 predicted boxes NaN or infinite"):
        match(logits[0], boxes[0], make_targets([[[0.5, 0.5, 0.1, 0.1]]]))


def test_predictions_for_another_number_of_pairs_are_refused(make_targets: MakeTargets) -> None:
    logits, boxes = random_predictions(layers=1, queries=4, pairs=2)
    with pytest.raises(ShapeError, match="predictions are for 2 pairs, targets for 1"):
        hungarian_match(logits, boxes, make_targets([[[0.5, 0.5, 0.1, 0.1]]]))


def test_one_to_many_mixes_score_and_overlap(make_targets: MakeTargets) -> None:
    # Both queries overlap the object by 1/3. Scores 0.9 and 0.5 give
    # 0.3 * 0.9 + 0.7 / 3 = 0.503 > 0.4 and 0.3 * 0.5 + 0.7 / 3 = 0.383 < 0.4.
    targets = make_targets([[[0.25, 0.25, 0.5, 0.5]]])
    boxes = torch.tensor([[0.5, 0.25, 0.5, 0.5]]).expand(2, 4)[:, None]
    logits = torch.tensor([[math.log(9)], [0.0]])
    assert couples(one_to_many_match(logits, boxes, targets, OneToManyConfig(min_one=False))) == {
        (0, 0, 0, 0)
    }


def test_one_to_many_keeps_about_k_best_queries_of_each_object(make_targets: MakeTargets) -> None:
    # Ten queries on the object with rising scores, k = 4: the 0.6 quantile lies at place 0.6 * 9 = 5.4,
    # between the sixth and the seventh, so the best four remain.
    targets = make_targets([[[0.5, 0.5, 0.2, 0.2]]])
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(10, 1, 4)
    logits = torch.linspace(-2, 2, 10)[:, None]
    matches = one_to_many_match(logits, boxes, targets)
    assert couples(matches) == {(0, 0, query, 0) for query in (6, 7, 8, 9)}


def test_fewer_queries_than_k_may_all_be_positive(make_targets: MakeTargets) -> None:
    targets = make_targets([[[0.5, 0.5, 0.2, 0.2]]])
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(3, 1, 4)
    assert len(one_to_many_match(torch.zeros(3, 1), boxes, targets)) == 3


def test_one_to_many_can_match_one_query_to_two_objects(make_targets: MakeTargets) -> None:
    targets = make_targets([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.38, 0.38]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4]], [[0.1, 0.1, 0.1, 0.1]]])
    assert couples(one_to_many_match(torch.zeros(2, 1), boxes, targets)) == {(0, 0, 0, 0), (0, 0, 0, 1)}


@pytest.mark.parametrize("min_one", [True, False])
def test_min_one_keeps_the_nearest_query_where_nothing_overlaps(
    min_one: bool, make_targets: MakeTargets
) -> None:
    targets = make_targets([[[0.8, 0.8, 0.1, 0.1]]])
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.6, 0.6, 0.1, 0.1]])[:, None]
    matches = one_to_many_match(torch.zeros(2, 1), boxes, targets, OneToManyConfig(min_one=min_one))
    assert couples(matches) == ({(0, 0, 1, 0)} if min_one else set())


def test_impossible_one_to_many_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="score_share = 1.5 is outside 0..1"):
        OneToManyConfig(score_share=1.5)
    with pytest.raises(ConfigError, match="top_k = 0"):
        OneToManyConfig(top_k=0)
