"""Each repair writes a model that differs in what it says it changes, and in nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import conceptseg as cs
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.data.concept_data import open_dataset
from conceptseg.errors import ConfigError, OptionError
from conceptseg.models.config import PresenceCalibration
from conceptseg.presence.finetuning import PRESENCE, hold_out
from conceptseg.presence.repairing import Repair, repair
from conceptseg.presence.repairs.case import RepairOptions
from conceptseg.segmenter import Segmenter
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import in_part
from tests.checkpoints.foreign_files import official_state, write_tokenizer
from tests.evaluation.scripted import write_coco

LEFT, RIGHT = [0, 0, 40, 48], [24, 0, 64, 48]
SMALL = ("steps=3", "images=2", "questions=2", "precision=float32", "optimiser.warmup_steps=1")
SMALL_DISTIL = ("steps=2", "data.images=2", "data.questions=1", "data.workers=0", "validation_batches=0")
Make = Callable[..., Segmenter]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images of coins and stars in turn, so that each phrase is there and not there in either half."""
    images = {f"{n:02}.png": ({"coin": [LEFT]} if n // 2 % 2 else {"star": [LEFT, RIGHT]}) for n in range(12)}
    return write_coco(tmp_path / "data", images)


@pytest.fixture
def collapsed(make_segmenter: Make, tmp_path: Path) -> Path:
    """The tiny model with presence logits shifted down by 12."""
    segmenter = make_segmenter(presence_calibration=PresenceCalibration())
    with torch.no_grad():
        segmenter.detector.decoder.presence_head.mlp.layers[-1].bias.sub_(12)
    save_model_folder(tmp_path / "student", segmenter.detector, segmenter.tokenizer, segmenter.config)
    return tmp_path / "student"


@pytest.fixture
def teacher(make_segmenter: Make, tmp_path: Path) -> Path:
    segmenter = make_segmenter(presence_calibration=PresenceCalibration())
    save_model_folder(tmp_path / "teacher", segmenter.detector, segmenter.tokenizer, segmenter.config)
    return tmp_path / "teacher"


def weights(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(folder)[0].state_dict()


def changed(before: Path, after: Path) -> set[str]:
    one, other = weights(before), weights(after)
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def without_labels(collapsed: Path, teacher: Path, data: Path, out: Path, **options: object) -> Repair:
    given = RepairOptions(teacher=str(teacher), labels="none", threshold=0.1, **options)  # type: ignore[arg-type]
    return repair(collapsed, "calibrate", data, out, given)


def test_ignoring_is_recorded_as_the_models_own_mode(
    collapsed: Path, data: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    found = repair(collapsed, "ignore", data, tmp_path / "out", RepairOptions(threshold=0.1))
    mended = cs.load(tmp_path / "out")
    assert mended.config.presence_mode == "ignore"
    assert changed(collapsed, tmp_path / "out") == set()
    assert len(mended.segment(picture, text="coin", threshold=0.1).scores) > 0
    assert len(cs.load(collapsed).segment(picture, text="coin", threshold=0.1).scores) == 0
    assert found.judgements["before"].lost_to_presence == 1
    assert found.judgements["after"].lost_to_presence == 0
    assert found.spent["labels"] == 0


def test_calibrating_without_labels_brings_the_teachers_answers_back(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    # The student is the teacher but for a shift, so the fit must undo just that.
    found = without_labels(collapsed, teacher, data, tmp_path / "out")
    config = cs.load(tmp_path / "out").config
    assert config.presence_mode == "calibrated"
    calibrated = found.calibration.scale * -12 + found.calibration.offset
    assert calibrated == pytest.approx(0, abs=0.3) or found.calibration.scale < 1
    wanted = cs.load(teacher).segment(picture, text="coin", threshold=0.0)
    given = cs.load(tmp_path / "out").segment(picture, text="coin", threshold=0.0)
    assert given.presence == pytest.approx(wanted.presence, abs=0.01)
    assert np.allclose(given.scores, wanted.scores, atol=0.01)
    assert changed(collapsed, tmp_path / "out") == set()
    assert (found.spent["labels"], found.spent["images"]) == (0, 6)


def test_calibrating_needs_no_labelled_image(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "nouns.txt").write_text("coin\nstar\n\nred circle\n")
    options = RepairOptions(teacher=str(teacher), labels="none", phrases=str(tmp_path / "nouns.txt"))
    images = tmp_path / "images"
    images.mkdir()
    for path in (data / "valid").glob("*.png"):
        path.rename(images / path.name)  # without their annotations
    found = repair(collapsed, "calibrate", images, tmp_path / "out", options)
    before, after = found.agreements["before"], found.agreements["after"]
    assert (before.passing, after.same_answer, found.judgements) == (0, 1, {})
    assert after.difference < 0.02 < before.difference
    assert (found.spent["images"], found.spent["pairs"], found.spent["labels"]) == (6, 18, 0)
    values = json.loads((tmp_path / "out" / "repair.json").read_text())
    assert values["judgements"] == {} and set(values["agreements"]) == {"before", "after"}
    assert (tmp_path / "out" / "repair.md").is_file()


def test_a_calibration_is_used_by_every_way_of_asking(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    without_labels(collapsed, teacher, data, tmp_path / "out")
    mended = cs.load(tmp_path / "out")
    scores = mended.segment(picture, text="coin", threshold=0.0).scores
    (many,) = mended.segment_many([picture], text="coin", threshold=0.0)
    assert np.allclose(many.scores, scores, atol=1e-6)
    processor = cs.Sam3Processor(mended, confidence_threshold=0.0)
    state = processor.set_text_prompt(prompt="coin", state=processor.set_image(picture))
    assert np.allclose(np.sort(state["scores"].numpy())[::-1], scores, atol=1e-5)
    raw = mended.segment(picture, text="coin", threshold=0.0, presence="multiply")
    assert raw.presence < 1e-4  # a caller can still ask for what the network says


def test_a_calibration_asks_no_more_pairs_than_it_needs(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conceptseg.presence.repairs.calibrate.ENOUGH_PAIRS", 12)
    file = data / "valid" / "_annotations.coco.json"
    values = json.loads(file.read_text())
    for image in values["images"]:
        image["absent_phrases"] = ["moon", "red circle", "tree"]
    file.write_text(json.dumps(values))
    found = without_labels(collapsed, teacher, data, tmp_path / "out")
    assert found.spent["pairs"] == 12  # of six images, one present and one absent phrase each


def test_a_calibration_goes_along_into_an_exported_model(
    tiny_onnx_folder: Path, tiny_model_folder: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(tiny_onnx_folder, folder)
    values = json.loads((folder / "config.json").read_text())
    values |= {"presence_mode": "calibrated", "presence_calibration": {"scale": 0.5, "offset": -2.0}}
    (folder / "config.json").write_text(json.dumps(values))
    logit = cs.load(tiny_model_folder).segment(picture, text="coin").presence_logit
    found = cs.load(folder).segment(picture, text="coin", threshold=0.0)
    assert found.presence == pytest.approx(1 / (1 + np.exp(2.0 - 0.5 * logit)), abs=1e-4)
    assert np.allclose(found.scores, found.class_scores * found.presence, atol=1e-6)


def test_an_offset_only_keeps_the_scale(collapsed: Path, teacher: Path, data: Path, tmp_path: Path) -> None:
    found = without_labels(collapsed, teacher, data, tmp_path / "out", offset_only=True)
    assert found.calibration.scale == 1
    assert found.calibration.offset == pytest.approx(12, abs=0.01)


def test_finetuning_changes_presence_and_not_another_bit(collapsed: Path, data: Path, tmp_path: Path) -> None:
    options = RepairOptions(threshold=0.1, overrides=SMALL)
    found = repair(collapsed, "finetune", data, tmp_path / "out", options)
    names = changed(collapsed, tmp_path / "out")
    assert all(any(in_part(name, part) for part in PRESENCE) for name in names)
    assert {"decoder.presence_token", "decoder.presence_head.norm.weight"} <= names
    assert found.spent["labels"] == 12  # of six images, two phrases each


def test_finetuning_drops_a_calibration_that_was_fitted_to_the_old_head(
    make_segmenter: Make, data: Path, tmp_path: Path
) -> None:
    model = make_segmenter(presence_mode="calibrated")
    save_model_folder(tmp_path / "model", model.detector, model.tokenizer, model.config)
    repair(tmp_path / "model", "finetune", data, tmp_path / "out", RepairOptions(overrides=SMALL))
    config = cs.load(tmp_path / "out").config
    assert (config.presence_mode, config.presence_calibration) == ("multiply", PresenceCalibration())


def test_finetuning_teaches_what_is_there_and_what_is_not(
    collapsed: Path, data: Path, tmp_path: Path
) -> None:
    more = (*SMALL, "steps=25", "optimiser.lr=0.02", "log_every=1")
    repair(collapsed, "finetune", data, tmp_path / "out", RepairOptions(overrides=more))
    lines = (tmp_path / "out" / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss/presence"] for line in lines]
    assert losses[-1] < 0.6 * losses[0]


def test_finetuning_ends_with_the_step_that_was_best_on_images_it_did_not_train_on(
    collapsed: Path, tmp_path: Path
) -> None:
    """At a rate that is far too high the loss falls, and then does not stay there."""
    data = write_coco(tmp_path / "many", {f"{n:02}.png": {"coin": [LEFT]} for n in range(50)})
    more = (
        *SMALL,
        "steps=40",
        "optimiser.lr=0.5",
        "log_every=1",
        "validate_every=1",
        "patience=3",
        "save_every=1",
    )
    found = repair(collapsed, "finetune", data, tmp_path / "out", RepairOptions(overrides=more))
    lines = RunFolder(tmp_path / "out" / "run").metrics()
    looks = [line["loss/presence"] for line in lines if line["kind"] == "validation"]
    best = int(np.argmin(looks)) + 1
    assert len(looks) == best + 3 < 40  # three looks without a better one
    kept = load_file(tmp_path / "out" / "run" / "best.safetensors")
    written = weights(tmp_path / "out")
    assert all(torch.equal(kept[f"detector.{name}"], value) for name, value in written.items())
    last = torch.load(tmp_path / "out" / "run" / "last.pt", weights_only=True)["task"]
    assert not torch.equal(last["detector.decoder.presence_token"], written["decoder.presence_token"])
    assert found.spent["pairs"] <= 4 * len(looks)  # of the steps that were made


def test_images_are_held_out_from_all_over_the_data_or_not_at_all(data: Path, tmp_path: Path) -> None:
    images = {f"{n:02}.png": {"coin": [LEFT]} for n in range(50)}
    many = open_dataset(write_coco(tmp_path / "many", images))
    fit, held = hold_out(many, 0.2)
    assert held is not None
    kept, judge = ([it.path.name for it in part] for part in (fit, held))
    assert judge == [f"{number:02}.png" for number in range(2, 50, 5)]
    assert sorted([*kept, *judge]) == sorted(images)
    assert len(hold_out(many, 0.999)[0]) == 1  # something is left to train on
    for share in (0.0, 0.08):  # none, and four of fifty
        assert hold_out(many, share) == (many, None)


def test_distilling_runs_stages_2_and_3_and_without_labels_only_2(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path
) -> None:
    for labels, stages in (("all", ["stage-2", "stage-3"]), ("none", ["stage-2"])):
        options = RepairOptions(teacher=str(teacher), labels=labels, overrides=SMALL_DISTIL)  # type: ignore[arg-type]
        found = repair(collapsed, "distil", data, tmp_path / labels, options)
        assert sorted(path.name for path in (tmp_path / labels / "run").iterdir()) == stages
        assert "fusion_encoder" in {name.split(".")[0] for name in changed(collapsed, tmp_path / labels)}
        assert (found.spent["labels"] == 0) == (labels == "none")
        assert set(found.judgements) == {"teacher", "before", "after"}


def test_what_distilling_from_scenes_spent_is_counted_stage_by_stage(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path
) -> None:
    more = (*SMALL_DISTIL, "data.render_size=64", "2.steps=3", "3.data.questions=2")
    options = RepairOptions(teacher=str(teacher), overrides=more, fit_images=1, judge_images=1)
    spent = repair(collapsed, "distil", "scenes", tmp_path / "out", options).spent
    # Three steps and two, of two images each; only those of stage 3 come with labels, two pairs per image.
    assert (spent["images"], spent["pairs"], spent["labels"]) == (10, 6 + 8, 8)


def test_an_interrupted_distillation_goes_on_with_the_stage_it_was_in(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path
) -> None:
    options = RepairOptions(teacher=str(teacher), overrides=SMALL_DISTIL)
    repair(collapsed, "distil", data, tmp_path / "out", options)
    first = weights(tmp_path / "out")
    stamp = (tmp_path / "out" / "run" / "stage-2" / "model" / "config.json").stat().st_mtime_ns
    again = RepairOptions(teacher=str(teacher), overrides=SMALL_DISTIL, resume=True)
    repair(collapsed, "distil", data, tmp_path / "out", again)
    assert (tmp_path / "out" / "run" / "stage-2" / "model" / "config.json").stat().st_mtime_ns == stamp
    assert all(torch.equal(value, first[name]) for name, value in weights(tmp_path / "out").items())


@pytest.mark.parametrize("method", ["ignore", "calibrate", "finetune", "distil"])
def test_every_repaired_model_has_a_card(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path, method: str
) -> None:
    overrides = {"finetune": SMALL, "distil": SMALL_DISTIL}.get(method, ())
    options = RepairOptions(teacher=str(teacher), overrides=overrides, threshold=0.1)
    if method == "calibrate":
        options = dataclasses.replace(options, labels="none")
    repair(collapsed, method, data, tmp_path / "out", options)  # type: ignore[arg-type]
    assert method in (tmp_path / "out" / "README.md").read_text()


def test_the_report_says_before_after_and_cost(
    collapsed: Path, teacher: Path, data: Path, tmp_path: Path
) -> None:
    without_labels(collapsed, teacher, data, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "repair.json").read_text())
    assert set(values["judgements"]) == {"teacher", "before", "after"}
    assert values["presence_mode"] == "calibrated"
    assert values["spent"]["labels"] == 0 and values["spent"]["images"] == 6
    assert (tmp_path / "out" / "repair.md").is_file()


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("pray", {}, "unknown method 'pray'; choose 'ignore', 'calibrate'"),
        ("distil", {}, "needs a teacher"),
        ("distill", {}, "needs a teacher"),
        ("calibrate", {"labels": "none"}, "needs a teacher"),
        ("finetune", {"labels": "none"}, "finetune learns from labels"),
        ("calibrate", {"labels": "some"}, "unknown labels 'some'"),
        ("calibrate", {"matching": "hope"}, "unknown matching 'hope'"),
        ("calibrate", {"phrases": "nouns.txt"}, "phrases .* are for images without labels"),
        ("finetune", {"overrides": ["stepz=3"]}, "stepz"),
        ("finetune", {"overrides": ["lora.rank=4"]}, "lora.rank is 4"),  # it would change more than presence
        ("finetune", {"overrides": ["trainable=[mask_head]"]}, "trainable is"),
        ("distil", {"teacher": "nano", "overrides": ["3.steps=0"]}, "steps is 0"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    tmp_path: Path, method: str, options: dict[str, str], words: str
) -> None:
    # Before the model is even looked for: judging it first takes minutes.
    with pytest.raises((OptionError, ConfigError), match=words):
        repair("no-such-model", method, "scenes", tmp_path / "out", RepairOptions(**options))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_a_model_is_not_written_over(collapsed: Path, data: Path) -> None:
    with pytest.raises(OptionError, match="already holds a model"):
        repair(collapsed, "ignore", data, collapsed)


def test_a_repair_asked_in_bfloat16_writes_the_weights_of_the_file(data: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "given")
    torch.save(official_state(), tmp_path / "given" / "sam3.pt")
    options = RepairOptions(device="cpu", dtype="bfloat16")
    repair(tmp_path / "given" / "sam3.pt", "ignore", data, tmp_path / "out", options)
    before, after = (
        load_checkpoint(path)[0].state_dict() for path in (tmp_path / "given" / "sam3.pt", tmp_path / "out")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
