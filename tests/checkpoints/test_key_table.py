"""Reading foreign names: renames, stacks, reshapes, and no key unaccounted for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from conceptseg.checkpoints.key_table import (
    KeyTable,
    Known,
    first_few,
    position_grid,
    position_grid_with_class,
    rename,
    stack,
    transpose,
)
from conceptseg.errors import CheckpointError

TABLE = KeyTable(
    layout="Test",
    rules=(
        rename("head.{p}", "scoring.{p}"),
        rename("layers.{i}.fc1.{p}", "blocks.{i}.mlp.0.{p}"),
        stack("layers.{i}.{part}.{p}", ("q", "k", "v"), "blocks.{i}.qkv.{p}"),
        position_grid("table", "positions"),
        rename("alias.{p}", "scoring.{p}"),
    ),
    known=(Known("layers.{i}.freqs", "computed"), Known("spare.*", "spare", carried=True)),
    prefixes=("model.",),
    wrappers=("wrapped.",),
    foreign_parts={"tracker.": "another network"},
)


def tensors(*names: str) -> dict[str, Tensor]:
    return {name: torch.full((2, 3), float(i)) for i, name in enumerate(names)}


def test_names_are_translated_with_their_layer_number() -> None:
    state = tensors("head.weight", "layers.0.fc1.bias", "layers.11.fc1.bias")
    ours = TABLE.translate(state)
    assert set(ours) == {"scoring.weight", "blocks.0.mlp.0.bias", "blocks.11.mlp.0.bias"}
    assert ours["blocks.11.mlp.0.bias"] is state["layers.11.fc1.bias"]


def test_query_key_and_value_are_stacked_in_this_order_whatever_order_the_file_has() -> None:
    names = [f"layers.4.{part}.weight" for part in ("v", "q", "k")]
    ours = TABLE.translate(tensors(*names))
    assert ours["blocks.4.qkv.weight"].shape == (6, 3)
    assert ours["blocks.4.qkv.weight"][::2, 0].tolist() == [1.0, 2.0, 0.0]


def test_a_position_table_becomes_a_square_with_or_without_a_class_slot() -> None:
    table = torch.arange(9 * 2.0).reshape(1, 9, 2)
    with_slot = torch.cat((torch.full((1, 1, 2), -1.0), table), dim=1)
    for given in (table, with_slot):
        grid = TABLE.translate({"table": given})["positions"]
        assert grid.shape == (1, 3, 3, 2)
        assert torch.equal(grid[0, 1, 2], table[0, 5])


def test_a_position_table_that_is_no_square_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"cannot make positions of \(1, 7, 2\) of the Test layout"):
        TABLE.translate({"table": torch.zeros(1, 7, 2)})


def test_parts_that_cannot_be_stacked_are_an_error() -> None:
    state = tensors("layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight")
    state["layers.0.k.weight"] = torch.zeros(2, 4)
    with pytest.raises(CheckpointError, match="cannot make blocks.0.qkv.weight"):
        TABLE.translate(state)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(CheckpointError, match="the Test layout has no headd.weight, layers.x.fc1.bias$"):
        TABLE.translate(tensors("head.weight", "headd.weight", "layers.x.fc1.bias"))


def test_of_many_unknown_keys_the_first_few_are_named() -> None:
    with pytest.raises(CheckpointError, match="has no a, b, c and 2 more"):
        TABLE.translate(tensors("a", "b", "c", "d", "e"))


def test_a_pattern_must_match_the_whole_key_and_dots_are_dots() -> None:
    for name in ("my.head.weight", "head.weight.0", "headxweight", "head.scale"):
        with pytest.raises(CheckpointError, match=name):
            TABLE.translate(tensors(name))


def test_a_tensor_of_which_a_part_is_missing_is_named() -> None:
    with pytest.raises(
        CheckpointError, match="blocks.2.qkv.bias needs 3 tensors .* got only layers.2.q.bias"
    ):
        TABLE.translate(tensors("layers.2.q.bias"))


def test_two_keys_for_one_tensor_are_an_error() -> None:
    with pytest.raises(CheckpointError, match="alias.weight and head.weight are both scoring.weight"):
        TABLE.translate(tensors("head.weight", "alias.weight"))


def test_known_unused_keys_and_other_networks_are_left_alone() -> None:
    assert set(TABLE.translate(tensors("head.bias", "layers.3.freqs", "tracker.anything"))) == {
        "scoring.bias"
    }


def test_a_prefix_that_all_keys_carry_is_removed() -> None:
    assert set(TABLE.translate(tensors("model.head.bias", "tracker.x"))) == {"scoring.bias"}
    with pytest.raises(CheckpointError, match="has no model.head.bias"):
        TABLE.translate(tensors("model.head.bias", "head.weight"))


def test_the_given_state_is_not_changed() -> None:
    state = tensors("model.head.bias")
    TABLE.translate(state)
    assert list(state) == ["model.head.bias"]


def test_first_few_counts_the_rest() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(["a", "b", "c", "d"], count=2) == "a, b and 2 more"


def test_a_plan_says_what_is_skipped_and_why_and_what_is_carried_along() -> None:
    keys = ("model.head.bias", "model.layers.3.freqs", "tracker.a", "tracker.b", "model.spare.x.y")
    plan = TABLE.plan(keys)
    assert plan.skipped == {
        "another network": ["tracker.a", "tracker.b"],
        "computed": ["model.layers.3.freqs"],
    }
    assert plan.carried == {"model.spare.x.y": "unused.spare.x.y"}
    assert plan.prefix == "model."


def test_a_wrapper_is_left_out_of_names_wherever_it_stands() -> None:
    assert set(TABLE.translate(tensors("wrapped.head.bias", "layers.1.wrapped.fc1.bias"))) == {
        "scoring.bias",
        "blocks.1.mlp.0.bias",
    }


def test_the_way_back_gives_the_same_names_and_values() -> None:
    state = tensors("head.weight", "layers.1.fc1.bias", *(f"layers.0.{part}.bias" for part in "qkv"))
    state["table"] = torch.rand(1, 9, 2)
    back, homeless = TABLE.back(TABLE.translate(state))
    assert homeless == []
    assert set(back) == set(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_what_was_carried_along_goes_back_and_what_has_no_place_is_named() -> None:
    back, homeless = TABLE.back(tensors("unused.spare.x", "unused.other", "elsewhere.weight"))
    assert set(back) == {"spare.x"}
    assert homeless == ["unused.other", "elsewhere.weight"]


def test_a_transposed_matrix_is_transposed_again_on_the_way_back() -> None:
    table = KeyTable("Test", (transpose("theirs", "ours"),))
    matrix = torch.rand(2, 3)
    ours = table.translate({"theirs": matrix})
    assert torch.equal(ours["ours"], matrix.t())
    assert torch.equal(table.back(ours)[0]["theirs"], matrix)


def test_the_slot_of_a_class_token_comes_back_and_is_zero_when_there_was_none() -> None:
    rules = position_grid_with_class("table", "grid", "unused.slot")
    table = KeyTable("Test", rules)
    given = torch.rand(1, 10, 2)
    made = {piece.ours: piece.make({"table": given}, "Test") for piece in table.plan(["table"]).pieces}
    assert made["unused.slot"].shape == (1, 1, 2)
    assert torch.equal(table.back(made)[0]["table"], given)
    del made["unused.slot"]
    assert not table.back(made)[0]["table"][:, 0].any()
