"""Names of the vision students, as released and as ours."""

from __future__ import annotations

import pytest
import torch

from conceptseg.checkpoints.key_table import KeyTable
from conceptseg.checkpoints.students import (
    TRUNK,
    known_student_keys,
    student_backbone,
    student_rules,
)
from conceptseg.errors import CheckpointError
from conceptseg.models.vision.student import BACKBONES, Student

# S: keeps the resolution, with squeeze and excitation; -: without; D: halves the resolution.
REPVIT_FEATURES = {
    "repvit_m0_9": "S--" + "DS--" + "D" + "S-" * 7 + "-" + "DS-",
    "repvit_m1_1": "S--" + "DS--" + "D" + "S-" * 6 + "-" + "DS-",
    "repvit_m2_3": "S-" * 3 + "-" + "D" + "S-" * 3 + "-" + "D" + "S-" * 17 + "-" + "DS-",
}


def table(backbone: str, prefix: str = TRUNK) -> KeyTable:
    return KeyTable("Test", student_rules(backbone, prefix), known=known_student_keys(backbone, prefix))


def released(backbone: str, prefix: str = TRUNK) -> dict[str, torch.Tensor]:
    """Every released name, without values."""
    with torch.device("meta"):
        state = Student(backbone, head_width=1024, stride=14).state_dict()
    names, homeless = table(backbone, prefix).back({f"vision_encoder.{k}": v for k, v in state.items()})
    assert not homeless
    return names


@pytest.mark.parametrize("backbone", REPVIT_FEATURES)
def test_repvit_has_its_kinds_of_blocks_where_the_released_list_of_features_has_them(backbone: str) -> None:
    names = released(backbone)
    for number, kind in enumerate(REPVIT_FEATURES[backbone], start=1):
        mixer = f"{TRUNK}backbone.model.features.{number}.token_mixer"
        assert (f"{mixer}.2.c.weight" in names) == (kind == "D")
        assert (f"{mixer}.1.fc1.weight" in names) == (kind == "S")
    assert (
        f"{TRUNK}backbone.model.features.{len(REPVIT_FEATURES[backbone])}.channel_mixer.m.0.c.weight" in names
    )
    assert not any(f"features.{len(REPVIT_FEATURES[backbone]) + 1}." in name for name in names)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_encoder_alone_is_recognised_and_read_like_one_in_a_whole_model(backbone: str) -> None:
    names = released(backbone, prefix="")
    assert set(names) == {name.removeprefix(TRUNK) for name in released(backbone)}
    assert student_backbone({k: v.shape for k, v in names.items()}, theirs="") == backbone
    assert student_backbone({k: v.shape for k, v in names.items()}) is None


@pytest.mark.parametrize(
    ("backbone", "leftover"),
    [
        ("repvit_m0_9", "classifier.classifier.l.weight"),
        ("tinyvit_5m", "norm_head.bias"),
        ("tinyvit_5m", "head.weight"),
        ("tinyvit_5m", "layers.1.blocks.0.attn.attention_bias_idxs"),
        ("efficientvit_b0", "head.op_list.2.linear.weight"),
    ],
)
def test_leftovers_of_earlier_training_are_known_and_skipped(backbone: str, leftover: str) -> None:
    names = list(released(backbone))
    plan = table(backbone).plan([*names, f"{TRUNK}backbone.model.{leftover}"])
    assert len(plan.pieces) == len(names)
    assert list(plan.skipped.values()) == [[f"{TRUNK}backbone.model.{leftover}"]]


def test_other_keys_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no backbone.model.features.99.token_mixer.0.c.weight"):
        table("repvit_m0_9", "").plan(["backbone.model.features.99.token_mixer.0.c.weight"])


def test_other_sizes_and_other_trunks_are_none_of_the_nine() -> None:
    shapes = {"backbone.model.features.0.0.c.weight": (24, 3, 3, 3), "head.0.weight": (1024, 400, 1, 1)}
    assert student_backbone(shapes, theirs="") is None
    assert student_backbone({"backbone.vision_backbone.trunk.pos_embed": (1, 577, 1024)}) is None
