"""Asked objects against the other objects of the same image."""

from __future__ import annotations

import pytest
import torch

from conceptseg.evaluation.grounding import in_scene_auroc, split_objects

LEFT, MIDDLE, RIGHT = [0.2, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2]


def figures(logits: list[float], asked: list[list[float]], others: list[list[float]]) -> list[float]:
    boxes = torch.tensor([LEFT, MIDDLE, RIGHT, LEFT])[:, None]  # the last query lies where the first does
    boxes[3, 0, 2:] = 0.18
    return in_scene_auroc(
        torch.tensor(logits)[:, None],
        boxes,
        [torch.tensor(asked).view(-1, 4)],
        [torch.tensor(others).view(-1, 4)],
    )


def test_the_share_of_pairs_in_the_right_order() -> None:
    assert figures([2.0, 1.0, 3.0, -9.0], [LEFT], [MIDDLE, RIGHT]) == [0.5]
    assert figures([4.0, 1.0, 3.0, -9.0], [LEFT], [MIDDLE, RIGHT]) == [1.0]


def test_the_highest_of_several_queries_on_an_object_counts() -> None:
    assert figures([-9.0, 1.0, 3.0, 2.0], [LEFT], [MIDDLE, RIGHT]) == [0.5]


def test_a_tie_counts_half() -> None:
    assert figures([1.0, 1.0, 0.0, 0.0], [LEFT], [MIDDLE]) == [0.5]


def test_a_pair_without_others_or_without_asked_gives_nothing() -> None:
    assert figures([1.0, 2.0, 3.0, 4.0], [LEFT], []) == []
    assert figures([1.0, 2.0, 3.0, 4.0], [], [LEFT]) == []


def test_an_object_that_no_query_covers_is_left_out() -> None:
    far = [0.2, 0.1, 0.1, 0.1]
    assert figures([1.0, 2.0, 3.0, 4.0], [LEFT], [far]) == []
    assert figures([1.0, 2.0, 3.0, 4.0], [LEFT], [far, MIDDLE]) == [1.0]


@pytest.mark.parametrize(("asked", "left"), [([LEFT], [MIDDLE, RIGHT]), ([], [LEFT, MIDDLE, RIGHT])])
def test_the_others_are_those_not_asked_for(asked: list[list[float]], left: list[list[float]]) -> None:
    rest = split_objects(torch.tensor([LEFT, MIDDLE, RIGHT]), torch.tensor(asked).view(-1, 4))
    assert rest.tolist() == torch.tensor(left).tolist()
