"""From a recipe of task `align` to a model folder: what `conceptseg train` calls for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.loaders import LoadedModel, load_checkpoint
from conceptseg.data.scenes import Scene
from conceptseg.exemplars.align_recipe import AlignRecipe, load_align_recipe
from conceptseg.exemplars.align_validation import AlignValidation
from conceptseg.exemplars.pool import PoolBatches, draw_pool, encode_pool
from conceptseg.hub import find_model
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.build import build_detector
from conceptseg.models.config import AnyExemplarConfig, ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.presence_reading import PresenceReading
from conceptseg.train.exemplar_alignment import AlignTask, ExemplarAlignment
from conceptseg.train.job import Work, run_job
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.start import take_weights
from conceptseg.train.task import Task


def train_recipe(
    recipe: str | Path,
    overrides: Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Align the exemplar path of a model; see `conceptseg.train.run.train_recipe` for the arguments.

    Returns:
        The folder of the aligned model.
    """
    chosen = load_align_recipe(recipe, overrides)
    job = AlignJob(chosen, RunFolder(out if out is not None else Path("runs") / chosen.name))
    run_job(job, resume)
    return job.folder.model_path


@dataclass(frozen=True)
class KeptPool:
    """The pictures of a recipe's pool, and their features where they are kept."""

    scenes: list[Scene]
    levels: tuple[torch.Tensor, ...] | None
    taught: torch.Tensor | None = None  # (pictures, T, h, w), the coarsest level of the recipe's teacher


def keep_pool(recipe: AlignRecipe, detector: Detector, config: ModelConfig) -> KeptPool:
    """Draw the pictures and, where the recipe says so, encode them."""
    pool = recipe.pool.of_model(config)
    scenes = draw_pool(pool)
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    levels = taught = None
    if recipe.keep_features:
        levels = encode_pool(detector, scenes, pool.sides[0], config.preprocessing, dtype)
    if recipe.teacher is not None:
        teacher, _, told = load_checkpoint(find_model(recipe.teacher))
        taught = encode_pool(teacher, scenes, told.preprocessing.resolution, told.preprocessing, dtype)[-1]
    return KeptPool(scenes, levels, taught)


@dataclass
class AlignJob:
    """One alignment."""

    recipe: AlignRecipe
    folder: RunFolder
    kept: KeptPool | None = None  # pictures and features that several runs share; None: made for this run

    def prepare(self) -> None:
        """Check that the model loads and the resolution fits; the tokenizer stays the model's own."""
        _, tokenizer, config = load_checkpoint(find_model(self.recipe.model))
        self.recipe.pool.of_model(config)
        if not self.folder.tokenizer_path.is_file():
            with replacing(self.folder.tokenizer_path) as path:
                tokenizer.save(path)

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        detector, tokenizer, config = start_model(recipe)
        kept = self.kept or keep_pool(recipe, detector, config)
        pool = recipe.pool.of_model(config)
        data = PoolBatches(
            pool, kept.scenes, tokenizer, recipe.seed, recipe.steps, kept.levels, process, kept.taught
        )
        reading = PresenceReading.of(config)
        validate = AlignValidation(recipe, pool, tokenizer, reading) if recipe.validation_batches else None
        return Work(align_task(recipe, detector, config), data, tokenizer, config, validate)

    def finish(self, task: Task, work: Work) -> ModelConfig:
        return work.config


def start_model(recipe: AlignRecipe) -> LoadedModel:
    """The model that is aligned, with the exemplar encoder that the recipe asks for."""
    detector, tokenizer, config = load_checkpoint(find_model(recipe.model))
    recipe.pool.of_model(config)
    if recipe.exemplar is not None or recipe.fresh:
        exemplar = recipe.exemplar or config.architecture.exemplar
        detector, config = with_encoder(detector, config, exemplar, recipe.fresh)
    provenance = {**config.provenance, "name": recipe.name, "aligned_from": recipe.model}
    if recipe.licence is not None:
        provenance["licence"] = recipe.licence
    return detector, tokenizer, dataclasses.replace(config, provenance=provenance)


def with_encoder(
    detector: Detector, config: ModelConfig, exemplar: AnyExemplarConfig, fresh: bool
) -> tuple[Detector, ModelConfig]:
    """The same model with another exemplar encoder; weights that fit are kept unless it is to be fresh."""
    architecture = dataclasses.replace(config.architecture, exemplar=exemplar)
    changed = build_detector(architecture)
    take_weights(changed, detector.state_dict(), ("exemplar_encoder",) if fresh else ())
    return changed, dataclasses.replace(config, architecture=architecture)


def align_task(recipe: AlignRecipe, detector: Detector, config: ModelConfig) -> AlignTask:
    """The task of a recipe; parts are frozen by the caller."""
    told = None if recipe.teacher is None else load_checkpoint(find_model(recipe.teacher))[2]
    alignment = ExemplarAlignment(
        config.architecture.width,
        recipe.alignment,
        recipe.phases,
        recipe.steps,
        None if told is None else told.architecture.width,
    )
    task = AlignTask(detector, DetectionLoss(recipe.loss), config.preprocessing, recipe.weights, alignment)
    task.use_one_to_many(recipe.one_to_many)
    return task
