"""Aligning a model: what trains, what stays, and what a resume repeats."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.data.scenes.writer import make_scenes
from conceptseg.distil.run import DistilJob
from conceptseg.errors import ConfigError, DataError
from conceptseg.evidence.trainings_recipe import read_trainings
from conceptseg.exemplars.align_recipe import AlignRecipe, load_align_recipe
from conceptseg.exemplars.align_run import AlignJob, train_recipe
from conceptseg.exemplars.align_validation import AlignValidation
from conceptseg.exemplars.pool import EncodedBatch, PoolBatches, PoolConfig, draw_pool, encode_pool
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.run import tuning_task
from conceptseg.losses.alignment import ANALYSED, AlignmentConfig
from conceptseg.models.config import PreprocessingConfig
from conceptseg.train.exemplar_alignment import AlignTask
from conceptseg.train.job import run_job
from conceptseg.train.loop import Trainer
from conceptseg.train.run_folder import RunFolder
from tests.distil.tiny import tiny_recipe
from tests.train.tiny import StopAfter, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FROZEN = ("vision_encoder", "neck", "text_encoder", "fusion_encoder", "decoder", "scoring", "mask_head")


def changed_parts(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    old = before.state_dict()
    return {
        name.split(".")[0]
        for name, value in after.state_dict().items()
        if name not in old or not torch.equal(value, old[name])
    }


def test_only_the_exemplar_encoder_changes(align_recipe, tiny_segmenter, tmp_path) -> None:
    model = train_recipe(align_recipe(), out=tmp_path / "run")
    detector, _, config = load_model_folder(model)
    assert changed_parts(tiny_segmenter.detector, detector) == {"exemplar_encoder"}
    assert config.provenance["name"] == "tiny-align" and config.presence_calibration.scale == 2.0
    assert cs.load(model, device="cpu").fingerprint != tiny_segmenter.fingerprint


def test_both_losses_are_logged_apart_and_weighed_by_the_phase(align_recipe, tmp_path) -> None:
    train_recipe(align_recipe(), out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert all("loss/exemplar_contrastive" in line and "loss/class" in line for line in steps)
    rates = [line["lr"] for line in steps]
    assert rates[1] > 3 * rates[0] and rates[4] > rates[3] / 2  # 0.1, then 0.5, then 1.0 of the schedule
    (look,) = [line for line in lines if line["kind"] == "validation"]
    assert 0 <= look["box_f1"] <= 1


def test_a_repaired_model_is_validated_with_presence_as_its_config_reads_it(
    align_recipe, tiny_segmenter, tmp_path
) -> None:
    config = dataclasses.replace(tiny_segmenter.config, presence_mode="ignore")
    save_model_folder(tmp_path / "model", tiny_segmenter.detector, tiny_segmenter.tokenizer, config)
    recipe = load_align_recipe(align_recipe(model=str(tmp_path / "model")))
    job = AlignJob(recipe, RunFolder(tmp_path / "run"))
    job.prepare()
    validate = job.build(0, 1).validate
    assert isinstance(validate, AlignValidation) and validate.reading.mode == "ignore"


def test_kept_features_train_as_pictures_do(align_recipe, tmp_path) -> None:
    models = [
        train_recipe(align_recipe(), [f"keep_features={kept}"], tmp_path / kept) for kept in ("true", "false")
    ]
    kept, read = (load_model_folder(model)[0].state_dict() for model in models)
    for name in kept:
        torch.testing.assert_close(kept[name], read[name], atol=2e-4, rtol=1e-3)


def test_a_teacher_that_is_the_model_itself_teaches_the_same(
    align_recipe, tiny_model_folder, tmp_path
) -> None:
    recipe = align_recipe(precision="float32", alignment={"distillation": True})
    own = load_model_folder(train_recipe(recipe, out=tmp_path / "own"))[0].state_dict()
    teacher = f"teacher={tiny_model_folder}"
    for kept in ("true", "false"):  # of the model; a teacher's are always
        out = tmp_path / kept
        taught = load_model_folder(train_recipe(recipe, [teacher, f"keep_features={kept}"], out))[0]
        for name, value in taught.state_dict().items():
            torch.testing.assert_close(value, own[name], atol=2e-4, rtol=1e-3)
        lines = RunFolder(out).metrics()
        steps = [line for line in lines if line["kind"] == "train"]
        assert all(line["loss/exemplar_distillation"] > 0 for line in steps)
    with pytest.raises(ConfigError, match="null without alignment.distillation"):
        load_align_recipe(recipe, [teacher, "alignment.distillation=false"])


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(align_recipe, tmp_path) -> None:
    recipe, run = align_recipe(), tmp_path / "run"
    whole = load_model_folder(train_recipe(recipe, out=tmp_path / "whole"))[0].state_dict()
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3"):
        run_job(AlignJob(load_align_recipe(recipe), RunFolder(run)), stop=StopAfter(3))
    resumed = load_model_folder(train_recipe(recipe, out=run, resume=True))[0].state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_another_encoder_takes_the_place_of_the_models(align_recipe, tiny_segmenter, tmp_path) -> None:
    bridge = {"kind": "bridge", "layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.0}
    model = train_recipe(align_recipe(exemplar=bridge), out=tmp_path / "run")
    detector, _, config = load_model_folder(model)
    assert config.architecture.exemplar.kind == "bridge"
    assert changed_parts(tiny_segmenter.detector, detector) == {"exemplar_encoder"}


def test_low_rank_weights_are_merged_into_a_model_that_loads(align_recipe, tiny_segmenter, tmp_path) -> None:
    lora = {"rank": 2, "parts": ["fusion_encoder"]}
    model = train_recipe(align_recipe(lora=lora, ema_decay=0.5), out=tmp_path / "run")
    detector = load_model_folder(model)[0]
    assert changed_parts(tiny_segmenter.detector, detector) == {"exemplar_encoder", "fusion_encoder"}


def test_a_fresh_start_forgets_the_models_encoder(align_recipe, tiny_segmenter) -> None:
    recipe = load_align_recipe(align_recipe(fresh=True))
    work = AlignJob(recipe, RunFolder("unused")).build(0, 1)
    old = tiny_segmenter.detector.exemplar_encoder.box_coordinates.weight
    assert not torch.equal(work.task.detector.exemplar_encoder.box_coordinates.weight, old)


def test_the_vision_encoder_may_train_when_features_are_not_kept(
    align_recipe, tiny_segmenter, tmp_path
) -> None:
    parts = ["exemplar_encoder", "vision_encoder", "neck"]
    with pytest.raises(ConfigError, match="keep_features is true, but vision_encoder is trainable"):
        load_align_recipe(align_recipe(trainable=parts))
    model = train_recipe(
        align_recipe(trainable=parts, keep_features=False, train_steps=1), out=tmp_path / "run"
    )
    assert changed_parts(tiny_segmenter.detector, load_model_folder(model)[0]) == set(parts)


def test_a_labelled_dataset_can_be_the_pool(align_recipe, tiny_segmenter, tmp_path) -> None:
    for split in ("train", "held_out"):
        make_scenes(tmp_path / "data", count=8, seed=1, size=64, split=split)
    pool = {"dataset": str(tmp_path / "data"), "scenes": 6, "resolution": 64, "render_size": 64, "pairs": 2,
            "mask_size": 16}  # fmt: skip
    model = train_recipe(align_recipe(pool=pool, train_steps=2), out=tmp_path / "run")
    assert changed_parts(tiny_segmenter.detector, load_model_folder(model)[0]) == {"exemplar_encoder"}
    with pytest.raises(DataError, match="no split"):
        draw_pool(
            PoolConfig(dataset=str(tmp_path / "data"), split="test", scenes=8, resolution=64, render_size=64)
        )


def test_a_pools_batch_depends_on_seed_and_step_alone(tiny_segmenter) -> None:
    config = PoolConfig(scenes=8, resolution=64, render_size=64, pairs=2, mask_size=16)
    scenes = draw_pool(config)
    levels = encode_pool(
        tiny_segmenter.detector, scenes, 64, tiny_segmenter.config.preprocessing, torch.float32
    )
    data = PoolBatches(config, scenes, tiny_tokenizer(), 3, 10, levels)
    one, again, other = data[4], data[4], data[5]
    assert isinstance(one, EncodedBatch) and one.levels is not None and one.levels[-1].shape[:2] == (4, 32)
    assert torch.equal(one.pixels, again.pixels) and not torch.equal(one.pixels, other.pixels)
    assert one.phrases == again.phrases and len(data) == 10
    pixels = (one.pixels.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        made = tiny_segmenter.detector.encode_images(pixels).levels
    torch.testing.assert_close(made[-1], one.levels[-1], atol=1e-4, rtol=1e-4)


def test_a_batch_in_parts_takes_its_kept_features_along(tiny_segmenter) -> None:
    config = PoolConfig(scenes=8, resolution=64, render_size=64, pairs=2, mask_size=16)
    levels = (torch.arange(8.0).view(8, 1, 1, 1).expand(8, 32, 4, 4),)
    taught = -levels[0][:, :7]
    whole = PoolBatches(config, draw_pool(config), tiny_tokenizer(), 3, 10, levels, taught=taught)[0]
    parts = whole.split(3)
    assert sum(len(part.phrases) for part in parts) == len(whole.phrases)
    first = 0
    for part in parts:
        assert isinstance(part, EncodedBatch) and part.levels is not None
        pairs = slice(first, first + len(part.phrases))
        first = pairs.stop
        for index in ("image_index", "exemplar_index"):
            kept = whole.levels[0][getattr(whole, index)[pairs]]
            assert torch.equal(part.levels[0][getattr(part, index)], kept)
            assert part.taught is not None
            assert torch.equal(part.taught[getattr(part, index)], -kept[:, :7])
            assert torch.equal(part.pixels[getattr(part, index)], whole.pixels[getattr(whole, index)[pairs]])


def test_pictures_are_of_the_models_own_size_unless_told(tiny_segmenter) -> None:
    config = dataclasses.replace(tiny_segmenter.config, preprocessing=PreprocessingConfig(resolution=96))
    assert PoolConfig().of_model(config).sides == (96, 96)
    assert PoolConfig(resolution=32).of_model(config).sides == (32, 64)  # no scene is smaller than 64
    assert PoolConfig(resolution=128, render_size=160).of_model(config).sides == (128, 160)
    assert load_align_recipe("align").pool.resolution is None


def test_impossible_recipes_are_refused(align_recipe, tmp_path) -> None:
    with pytest.raises(ConfigError, match="pool.resolution is 70; it must be a multiple of 32"):
        train_recipe(align_recipe(), ["pool.resolution=70"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="pool.scenes is 7"):
        load_align_recipe(align_recipe(), ["pool.scenes=7"])
    with pytest.raises(ConfigError, match="recipe.exemplar.kind is 'rio'"):
        load_align_recipe(align_recipe(), ["exemplar={kind: rio}"])


def test_the_packaged_recipe_tells_examples_apart_as_it_was_measured() -> None:
    """What `benchmarks/trainings.yaml` found to help is what `conceptseg train align` does."""
    recipe = load_align_recipe("align")
    measured = read_trainings(ROOT / "benchmarks" / "trainings.yaml").of("roi apart 30", 0)
    assert (recipe.alignment, recipe.phases) == (measured.alignment, measured.phases)
    assert recipe.alignment == AlignmentConfig()
    assert recipe.trainable == ("exemplar_encoder",) and recipe.keep_features
    assert isinstance(recipe, AlignRecipe) and Trainer is not None


def test_distillation_through_the_fusion_can_align_too(tiny_model_folder, tmp_path) -> None:
    recipe = tiny_recipe(2, tiny_model_folder, tiny_model_folder, resolution=None, alignment=ANALYSED)
    work = DistilJob(recipe, RunFolder(tmp_path)).build(0, 1)
    losses = work.task(work.data[0], torch.tensor(1.0))
    assert {"exemplar_contrastive", "exemplar_distillation", "memory_mse"} <= set(losses)
    assert work.task.loss_weights(0)["exemplar_contrastive"] == 0.1 and work.task.rate(0) == 0.1
    assert work.task.loss_weights(2)["exemplar_contrastive"] == 0.3
    plain = DistilJob(dataclasses.replace(recipe, alignment=None), RunFolder(tmp_path)).build(0, 1)
    assert (
        "exemplar_contrastive" not in plain.task(plain.data[0], torch.tensor(1.0)) and plain.task.rate(0) == 1
    )


def test_fine_tuning_can_align_too(tiny_model_folder, tmp_path) -> None:
    make_scenes(tmp_path / "data", count=4, seed=1, size=64)
    recipe = FinetuneRecipe(data=str(tmp_path / "data"), alignment=ANALYSED, step_count=10)
    detector, _, config = load_model_folder(tiny_model_folder)
    task = tuning_task(recipe, detector, config)
    assert isinstance(task, AlignTask) and task.rate(9) == 1.0
    assert task.loss_weights(5)["exemplar_distillation"] == 0.3
    assert not isinstance(
        tuning_task(dataclasses.replace(recipe, alignment=None), detector, config), AlignTask
    )
