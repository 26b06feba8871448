"""The same stages on the released architecture, reduced in size: SAM 3 -> the families of EfficientSAM3."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.run import distil
from conceptseg.distil.student import student_architecture
from conceptseg.errors import ConfigError
from conceptseg.models.config import (
    MobileClipTextConfig,
    ModelConfig,
    PreprocessingConfig,
    StudentConfig,
    ViTConfig,
)
from conceptseg.models.presets import PRESETS
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_config import OptimiserConfig
from tests.distil.tiny import tiny_recipe
from tests.models.tiny import tiny_detector

SIZE = 56  # 4 x 4 patches
SMALLER = {
    "vision": {"head_width": 32},
    "text": {"width": 24, "depth": 1, "heads": 2, "mlp_width": 32, "context_length": 8},
}
BACKBONES = {
    "sam3-repvit": "repvit_m0_9",
    "sam3-tinyvit": "tinyvit_5m",
    "sam3-efficientvit": "efficientvit_b0",
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 3 of random weights: windowed transformer, four-level neck, one-to-many queries."""
    detector = tiny_detector(vision={"patch_size": 14}, text={"vocab_size": 300})
    tokenizer = Tokenizer(train_tokenizer(["red circle", "coin"], 280), 8)
    config = ModelConfig(detector.config, PreprocessingConfig(SIZE), provenance={"name": "tiny sam3"})
    folder = tmp_path_factory.mktemp("sam3") / "teacher"
    save_model_folder(folder, detector, tokenizer, config)
    return folder


@pytest.mark.parametrize("preset", BACKBONES)
def test_each_family_goes_through_both_stages_and_loads(
    preset: str, teacher: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    changes = {**SMALLER, "vision": {**SMALLER["vision"], "backbone": BACKBONES[preset]}}
    more = {"steps": 1, "validation_batches": 0, "resolution": None}
    first = distil(tiny_recipe(1, teacher, preset, architecture=changes, **more), tmp_path / "one")
    second = distil(tiny_recipe(2, teacher, first, **more), tmp_path / "two")
    student = cs.load(second)
    assert isinstance(student.config.architecture.vision, StudentConfig)
    assert isinstance(student.config.architecture.text, MobileClipTextConfig)
    assert student.config.provenance["teacher"] == "tiny sam3"
    assert len(student.segment(picture, text="coin", threshold=0.0).scores) == 6
    if preset == "sam3-repvit":  # once is enough
        drift = cs.presence.diagnose(student, "scenes", teacher, limit=1, phrases=2).drift
        assert set(drift) >= {"vision trunk", "neck, map 3", "text", "fusion memory", "decoder layer 3"}


@pytest.mark.parametrize(
    ("preset", "vision"),
    [
        # Narrower than its teacher, as ViT-B is beside ViT-L: the neck reads other channels.
        ("sam3-vit-b", {"width": 24, "depth": 2, "heads": 2, "mlp_width": 32, "window": 3,
                        "global_blocks": [1], "position_grid": 3}),
        ("sam3-repvit", {"head_width": 32, "backbone": "repvit_m0_9", "fine_map": True}),
    ],
    ids=["vit", "fine-map"],
)  # fmt: skip
def test_a_transformer_and_a_finer_map_are_students_too(
    preset: str, vision: dict[str, object], teacher: Path, tmp_path: Path
) -> None:
    changes = {**SMALLER, "vision": vision}
    more = {"steps": 1, "validation_batches": 0, "resolution": None}
    first = distil(tiny_recipe(1, teacher, preset, architecture=changes, **more), tmp_path / "one")
    student = cs.load(distil(tiny_recipe(2, teacher, first, **more), tmp_path / "two"))
    given = dataclasses.asdict(student.config.architecture.vision)
    assert {name: given[name] for name in vision} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in vision.items()
    }


def half(teacher: Path, depth: int, **changes: object) -> DistilRecipe:
    """A student of half the teacher's trunk, distilled through the fusion at once."""
    theirs = dataclasses.asdict(load_checkpoint(teacher)[2].architecture.vision)
    vision = {**theirs, "depth": depth, "global_blocks": changes.pop("global_blocks", [0])}
    text = {"vocab_size": 300, "context_length": 8, "width": 32, "depth": 1, "heads": 2, "mlp_width": 32}
    values = {"steps": 1, "validation_batches": 0, "resolution": None, "inherit": True, **changes}
    changed = {"vision": vision, "text": text}
    return tiny_recipe(2, teacher, "sam3-half", architecture=changed, **values)


def test_half_a_trunk_begins_with_the_blocks_that_the_recipe_keeps(teacher: Path, tmp_path: Path) -> None:
    still = OptimiserConfig(lr=1e-12, warmup_steps=1)
    theirs = load_checkpoint(teacher)
    kept = theirs[2].architecture.vision.global_blocks[0]  # alone
    made = load_checkpoint(distil(half(teacher, 1, trunk_blocks=(kept,), optimiser=still), tmp_path / "run"))
    ours, before = made[0].state_dict(), theirs[0].state_dict()
    prefix = "vision_encoder.blocks."
    for name in (name for name in ours if name.startswith(prefix)):
        torch.testing.assert_close(ours[name], before[name.replace(f"{prefix}0.", f"{prefix}{kept}.")])
    assert len([name for name in ours if name.startswith(prefix)]) > 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trunk_blocks": (0, 1), "inherit": True}, "names 2 blocks up to 1; the student's trunk has 1"),
        ({"trunk_blocks": (9,), "inherit": True}, "names 1 blocks up to 9"),
        ({"trunk_blocks": (0,), "global_blocks": []}, "global_blocks is \\[\\], but \\[0\\] of"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(
    changes: dict[str, object], words: str, teacher: Path, tmp_path: Path
) -> None:
    first = load_checkpoint(teacher)[2].architecture.vision.global_blocks[0]
    if "global_blocks" in changes:
        changes = {**changes, "trunk_blocks": (first,)}
    with pytest.raises(ConfigError, match=words):
        distil(half(teacher, 1, **changes), tmp_path / "run")


def test_the_half_of_sam3_keeps_every_block_that_attends_over_the_whole_image() -> None:
    recipe = read_recipe(DistilRecipe, "sam3-half", ["teacher=sam3.pt"])
    ours, theirs = PRESETS["sam3-half"].vision, PRESETS["sam3"].vision
    assert isinstance(ours, ViTConfig) and isinstance(theirs, ViTConfig)
    assert len(recipe.trunk_blocks) == ours.depth == theirs.depth // 2
    assert tuple(recipe.trunk_blocks[block] for block in ours.global_blocks) == theirs.global_blocks


def test_a_student_of_sam3_keeps_everything_but_the_encoders() -> None:
    sam3 = PRESETS["sam3"]
    for preset in (*BACKBONES, "sam3-vit-b"):
        student = student_architecture(sam3, preset, {})
        assert dataclasses.replace(student, vision=sam3.vision, text=sam3.text) == sam3
    vit_b = student_architecture(sam3, "sam3-vit-b", {}).vision
    assert isinstance(vit_b, ViTConfig) and (vit_b.width, vit_b.depth) == (768, 12)


def test_a_student_with_one_map_of_a_teacher_with_several_gets_a_neck_of_its_own() -> None:
    # nano reads its maps at 1/4 and 1/8: both made of one at 1/16.
    changes = {"vision": {"stride": 16}, "neck": {"scales": [4.0, 2.0], "drop_last": 0}}
    student = student_architecture(PRESETS["nano"], "sam3-repvit", changes)
    assert (student.neck.scales, student.neck.per_level) == ((4.0, 2.0), False)
    with pytest.raises(cs.ConfigError, match="3 levels need 2"):
        student_architecture(PRESETS["nano"], "sam3-repvit", {})
