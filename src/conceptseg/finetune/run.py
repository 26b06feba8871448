"""Fine-tune a model on data of one's own: what `conceptseg finetune` calls."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import LoadedModel, load_checkpoint
from conceptseg.finetune.batches import ConceptBatches
from conceptseg.finetune.look import DatasetValidation, at_resolution
from conceptseg.finetune.parts import TrainAndJudge, train_and_judge
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.settle import settle
from conceptseg.hub import find_model
from conceptseg.losses.detection import DetectionLoss
from conceptseg.train.job import Work, run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import DetectionTask, Task


def train_recipe(
    recipe: str | Path,
    overrides: list[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Path:
    """Fine-tune by a recipe.

    Args:
        recipe: name of a packaged recipe, or path of a YAML file.
        overrides: `section.key=value`; `data=FOLDER` at least, if the recipe does not say it.
        out: run folder; None for `runs/NAME`.
        resume: go on with the run that the folder holds.

    Returns:
        The folder of the tuned model.

    Raises:
        ConfigError: the recipe is wrong.
        DataError: the data cannot be used.
        ModelNotFoundError, CheckpointError: the model cannot be.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder cannot be used, or training cannot go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step in flight was finished and saved.
    """
    given = read_recipe(FinetuneRecipe, recipe, overrides)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / given.name)
    job = open_job(given, folder)
    run_job(job, resume)
    return folder.model_path


def open_job(given: FinetuneRecipe, folder: RunFolder) -> FinetuneJob:
    """Open data and model, and settle the recipe."""
    parts = train_and_judge(given.data, given.split, given.held_out, given.held_out_images, given.seed)
    model = load_checkpoint(find_model(given.model))
    recipe = settle(given, parts.train, model[2])
    return FinetuneJob(recipe, folder, parts, model)


@dataclass
class FinetuneJob:
    """One fine-tuning run."""

    recipe: FinetuneRecipe
    folder: RunFolder
    parts: TrainAndJudge
    model: LoadedModel = field(repr=False)

    def prepare(self) -> None:
        with replacing(self.folder.tokenizer_path) as path:
            self.model[1].save(path)

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        detector, tokenizer, config = self.model
        assert recipe.resolution is not None
        config = at_resolution(config, recipe.resolution)
        task = FinetuneTask(detector, DetectionLoss(recipe.loss), config.preprocessing, recipe.weights)
        task.use_one_to_many(recipe.one_to_many)
        data = ConceptBatches(
            self.parts.train,
            tokenizer,
            recipe.batch,
            steps=recipe.steps,
            resolution=recipe.resolution,
            turns=bool(recipe.batch.augment.turns),
            seed=recipe.seed,
            process=process,
            processes=processes,
        )
        look = DatasetValidation(self.parts.judge, tokenizer, config, recipe.precision)
        return Work(task, data, look)

    def finish(self, task: Task) -> None:
        if self.folder.best_path.is_file():
            task.load_state_dict(load_file(self.folder.best_path))
        _, tokenizer, config = self.model
        assert self.recipe.resolution is not None
        config = at_resolution(config, self.recipe.resolution)
        dtype = getattr(torch, self.recipe.weights_dtype)
        save_model_folder(self.folder.model_path, task.detector, tokenizer, config, dtype)


class FinetuneTask(DetectionTask):
    """Find what the prompt names, in data of one's own."""
