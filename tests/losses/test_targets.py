from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from conceptseg.errors import ShapeError
from conceptseg.losses.targets import Targets

MakeTargets = Callable[..., Targets]
BOX = [0.5, 0.5, 0.2, 0.2]


def test_packing_drops_the_padding_and_keeps_the_order(make_targets: MakeTargets) -> None:
    targets = make_targets([[BOX, BOX], [], [BOX]])
    packed = targets.pack()
    assert packed.pair_index.tolist() == [0, 0, 2]
    assert packed.slot_index.tolist() == [0, 1, 0]
    assert packed.counts == [2, 0, 1]


def test_semantic_target_is_the_union_of_the_valid_masks(make_targets: MakeTargets) -> None:
    masks = torch.zeros(2, 2, 2, 2, dtype=torch.uint8)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 1] = 1
    masks[1, :, :, :] = 1  # padding: the second pair is absent
    union = make_targets([[BOX, BOX], []], masks).semantic_union()
    assert union is not None
    maps, counted = union
    assert maps[0].tolist() == [[True, False], [False, True]]
    assert not maps[1].any()
    assert counted.tolist() == [True, False]


def test_a_pair_with_an_object_of_unknown_shape_has_no_semantic_target(make_targets: MakeTargets) -> None:
    targets = make_targets([[BOX, BOX]], torch.ones(1, 2, 2, 2))
    targets.has_mask[0, 1] = False
    union = targets.semantic_union()
    assert union is not None and union[1].tolist() == [False]


def test_boxes_alone_have_no_semantic_target(make_targets: MakeTargets) -> None:
    assert make_targets([[BOX]]).semantic_union() is None


def test_moving_targets_keeps_what_is_missing_missing(make_targets: MakeTargets) -> None:
    moved = make_targets([[BOX]]).to("cpu")
    assert moved.masks is None and moved.semantic is None and moved.valid.tolist() == [[True]]


def test_targets_that_disagree_in_shape_are_refused() -> None:
    valid = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"targets.boxes_cxcywh is \(2, 4, 4\)"):
        Targets(torch.zeros(2, 4, 4), valid, valid.any(1), None, valid)
    with pytest.raises(ShapeError, match=r"targets.masks is \(2, 1, 8, 8\)"):
        Targets(torch.zeros(2, 3, 4), valid, valid.any(1), torch.zeros(2, 1, 8, 8), valid)
