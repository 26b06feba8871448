"""Fine-tuning from data to model and report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import conceptseg as cs
from conceptseg.data.step_batches import batches_from
from conceptseg.errors import ConfigError, DataError, ModelNotFoundError, TrainingError
from conceptseg.finetune import finetune
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.run import open_job, train_recipe
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder
from tests.checkpoints.foreign_files import official_state, write_tokenizer
from tests.finetune.quick import OVERRIDES, assert_close

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tiles: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nobody stopped."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    finetune(tiles, str(model), folder.path, overrides=OVERRIDES)
    return folder


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.model_path / "model.safetensors")


def test_the_tuned_model_loads_reads_the_chosen_square_and_says_where_it_is_from(whole: RunFolder) -> None:
    segmenter = cs.load(whole.model_path)
    assert segmenter.resolution == 64
    said = segmenter.config.provenance
    assert (said["name"], said["data"], said["steps"]) == ("finetune", "tiles", 6)
    assert "recommended_threshold" in said


def test_the_stale_calibration_of_the_start_is_gone(whole: RunFolder, model: Path) -> None:
    """The start says scale 2, offset 1."""
    config = cs.load(whole.model_path).config
    assert cs.load(model).config.presence_calibration.scale == 2.0
    if config.presence_mode == "multiply":
        assert (config.presence_calibration.scale, config.presence_calibration.offset) == (1.0, 0.0)
    else:
        assert config.presence_calibration.scale != 2.0


def test_the_report_compares_before_and_after_and_shows_both(whole: RunFolder) -> None:
    report = (whole.path / "report.md").read_text()
    for file in ("progress.png", "before_after.png", "overlays/1.png", "overlays/4.png"):
        assert file in report and (whole.path / file).stat().st_size > 200
    values = json.loads((whole.path / "comparison.json").read_text())
    assert "red tile" in values["before"]["per_phrase"] and "red tile" in values["after"]["per_phrase"]
    assert set(values) == {"before", "after", "scenes_before", "scenes_after", "recommended_threshold"}
    assert values["before"]["setup"]["resolution"] == 96 and values["after"]["setup"]["resolution"] == 64


def test_validation_is_that_of_evaluate_and_the_best_weights_are_kept(whole: RunFolder) -> None:
    looks = [line for line in whole.metrics() if line["kind"] == "validation"]
    assert [line["step"] for line in looks] == [3, 6]
    assert {"masks/cgf1", "masks/map50", "boxes/map50", "presence/auroc"} <= set(looks[0])
    best = load_file(whole.best_path)
    assert all(torch.equal(value, best[f"detector.{name}"]) for name, value in weights(whole).items())


def test_boxes_only_data_trains_without_mask_loss_and_the_model_still_gives_masks(
    boxed: Path, model: Path, tmp_path: Path
) -> None:
    tuned = finetune(boxed, str(model), tmp_path / "run", overrides=OVERRIDES)
    lines = [line for line in RunFolder(tmp_path / "run").metrics() if line["kind"] == "train"]
    for name in ("mask_focal", "mask_dice", "semantic_focal", "semantic_dice"):
        assert {line[f"loss/{name}"] for line in lines} == {0.0}
    assert any(line["loss/box_l1"] > 0 for line in lines)
    result = cs.load(tuned.model).segment(boxed / "train" / "train_0.png", text="red tile", threshold=0.0)
    assert len(result) and result.masks.shape[1:] == (60, 80)


def test_scenes_say_what_was_forgotten(boxed: Path, model: Path, tmp_path: Path) -> None:
    tuned = finetune(boxed, str(model), tmp_path / "run", overrides=[*OVERRIDES, "scenes=2", "step_count=1"])
    assert tuned.comparison is not None and tuned.comparison.scenes_after is not None
    assert "scenes: cgF1" in tuned.report.read_text()


@pytest.mark.parametrize(
    ("only", "parts"),
    [("presence", ("decoder.presence_head.",)), ("exemplar", ("exemplar_encoder.",))],
)
def test_only_the_named_part_changes(
    only: Any, parts: tuple[str, ...], tiles: Path, model: Path, tmp_path: Path
) -> None:
    finetune(tiles, str(model), tmp_path / "run", only=only, overrides=OVERRIDES)
    before, after = load_file(model / "model.safetensors"), weights(RunFolder(tmp_path / "run"))
    changed = {name for name, value in after.items() if not torch.equal(value.float(), before[name].float())}
    assert changed and all(name.startswith(parts) for name in changed)


def test_frozen_parts_stay_in_eval_mode_and_are_not_in_the_optimiser(
    tiles: Path, model: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(
        FinetuneRecipe, "finetune", [*OVERRIDES, f"data={tiles}", f"model={model}", "only=heads"]
    )
    job = open_job(recipe, RunFolder(tmp_path))
    task = job.build(0, 1).task
    task.train_only(job.recipe.trainable)
    task.train()
    assert not any(module.training for module in task.detector.vision_encoder.modules())
    assert task.detector.decoder.training and task.detector.mask_head.training


def test_a_recipe_of_this_task_runs_by_train_recipe(boxed: Path, model: Path, tmp_path: Path) -> None:
    lines = "\n".join(["task: finetune", f"data: {boxed}", f"model: {model}"])
    (tmp_path / "mine.yaml").write_text(lines)
    path = train_recipe(tmp_path / "mine.yaml", [*OVERRIDES, "step_count=1"], tmp_path / "run")
    assert cs.load(path)
    with pytest.raises(ConfigError, match="does not say what to train on; add data=FOLDER"):
        train_recipe("finetune")


def test_accumulation_makes_the_same_step_in_less_memory(tiles: Path, model: Path, tmp_path: Path) -> None:
    """Batch norm apart, whose statistics are those of a part; so the encoder that has it is frozen."""
    runs = []
    for parts in (1, 2):
        said = [*OVERRIDES, "only=heads", "precision=float32", f"accumulate={parts}", "step_count=2"]
        # The dense map's loss is a mean over the pairs of a part that have masks, as in the official code.
        said += ["batch.images=4", "weights.semantic_focal=0", "weights.semantic_dice=0", "ema_decay=0"]
        finetune(tiles, str(model), tmp_path / str(parts), overrides=said)
        runs.append(torch.load(tmp_path / str(parts) / "last.pt", weights_only=True)["task"])
    assert_close(*runs)


def test_an_official_file_is_tuned_by_its_heads_and_becomes_a_folder_of_ours(
    boxed: Path, tmp_path: Path
) -> None:
    torch.save(official_state(prefix="detector."), tmp_path / "sam3.pt")
    write_tokenizer(tmp_path)
    said = [
        *OVERRIDES,
        "step_count=1",
        "resolution=28",
        "window_resolution=28",
        "checkpoint_activations=true",
    ]
    tuned = finetune(boxed, str(tmp_path / "sam3.pt"), tmp_path / "run", overrides=said)
    segmenter = cs.load(tuned.model)
    assert segmenter.resolution == 28
    before, after = cs.load(tmp_path / "sam3.pt").detector.state_dict(), segmenter.detector.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed <= {"exemplar_encoder", "fusion_encoder", "decoder", "scoring", "mask_head"}
    assert {"decoder", "fusion_encoder"} <= changed


def test_low_rank_weights_are_merged_into_a_model_that_loads_and_answers_otherwise(
    tiles: Path, model: Path, tmp_path: Path
) -> None:
    said = [*OVERRIDES, "lora.rank=2", "only=presence", "optimiser.lr=0.02", "ema_decay=0"]
    tuned = finetune(tiles, str(model), tmp_path / "run", overrides=said)
    names = set(weights(RunFolder(tmp_path / "run")))
    assert names == set(load_file(model / "model.safetensors"))
    assert not any("lora" in name or "parametrizations" in name for name in names)

    before, after = cs.load(model), cs.load(tuned.model)
    states = before.detector.state_dict(), after.detector.state_dict()
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    attention = ("in_proj_weight", "out_proj.weight")
    assert any(name.endswith(attention) for name in changed)
    assert all(name.startswith("decoder.presence_head.") or name.endswith(attention) for name in changed)

    picture = tiles / "valid" / "valid_0.png"
    scores = [
        cs.load(folder, resolution=64)
        .segment(picture, text="red tile", threshold=0.0, presence="ignore")
        .class_scores
        for folder in (model, tuned.model)
    ]
    assert not np.allclose(scores[0], scores[1], atol=1e-3)


def test_what_cannot_be_used_is_named_before_anything_is_written(
    tiles: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError, match="no such file or folder"):
        finetune(tmp_path / "nothing", str(model), out)
    with pytest.raises(ModelNotFoundError, match="nope"):
        finetune(tiles, "nope", out)
    with pytest.raises(ConfigError, match="only is 'eyes'"):
        finetune(tiles, str(model), out, only="eyes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="trainable names 'eyes'"):
        finetune(tiles, str(model), tmp_path / "other", overrides=[*OVERRIDES, "trainable=[eyes]"])
    with pytest.raises(TrainingError, match="holds no run to resume"):
        finetune(tiles, str(model), out, resume=True)
    assert not out.exists()


def test_a_run_is_not_overwritten(whole: RunFolder, tiles: Path, model: Path) -> None:
    with pytest.raises(TrainingError, match="already holds a run .* go on with --resume"):
        finetune(tiles, str(model), whole.path, overrides=OVERRIDES)


def test_batches_come_alike_from_workers(tiles: Path, model: Path, tmp_path: Path) -> None:
    said = [*OVERRIDES, f"data={tiles}", f"model={model}"]
    pixels = []
    for workers in (0, 1):
        recipe = read_recipe(FinetuneRecipe, "finetune", [*said, f"batch.workers={workers}"])
        data = open_job(recipe, RunFolder(tmp_path)).build(0, 1).data
        pixels.append([batch.pixels for batch in batches_from(data, 3)])
    assert all(torch.equal(one, other) for one, other in zip(*pixels, strict=True))


def test_the_first_lines_say_what_will_be_done_and_how_long_it_takes(
    tiles: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiles, str(model), tmp_path / "run", overrides=[*OVERRIDES, "step_count=2"])
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first == "tiles: 6 images to train on, 4 to judge on; 2 steps of 2 images at 64 px"
    if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        assert second == "this will take about 1 minute on this machine"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", ["log:1", "log:4", "save:4", "report:0"])
def test_a_run_killed_at_any_moment_resumes_to_the_same_model(
    moment: str, whole: RunFolder, tiles: Path, model: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    killed = subprocess.run(
        [sys.executable, "-m", "tests.finetune.interrupted", tiles, model, folder.path, moment],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert killed.returncode == -9, killed.stderr
    assert not (folder.path / "report.md").exists()
    finetune(tiles, str(model), folder.path, overrides=OVERRIDES, resume=True)
    for name, value in weights(whole).items():
        assert torch.equal(weights(folder)[name], value), name
    logs = [
        [{k: v for k, v in line.items() if k != "pairs_per_second"} for line in run.metrics()]
        for run in (folder, whole)
    ]
    assert logs[0] == logs[1]
    assert json.loads((folder.path / "comparison.json").read_text()) == json.loads(
        (whole.path / "comparison.json").read_text()
    )
