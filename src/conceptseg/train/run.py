"""From a recipe of scenes to a trained model folder: what `conceptseg train` calls for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.data.batch import Batch
from conceptseg.data.mixture.batches import MixedBatches
from conceptseg.data.mixture.config import PhotographSource
from conceptseg.data.mixture.datasets import mixture_vocabulary, read_names
from conceptseg.data.scene_batches import DRAWN, SceneBatches, scene_vocabulary
from conceptseg.data.step_batches import StepBatches
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.config import ModelConfig
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train.job import Work, run_job
from conceptseg.train.recipe import Recipe, load_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.start import start_detector, start_tokenizer
from conceptseg.train.task import SceneTask, Task
from conceptseg.train.validation import SceneValidation

NAME_REPEATS = 20


def train_recipe(
    recipe: str | Path,
    overrides: Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a model.

    Started by `torchrun` or `accelerate launch`, several processes train together: each takes other scenes, a
    step is as many times larger, and the main one writes the run folder.

    Args:
        recipe: name of a packaged recipe, or path of a YAML file.
        overrides: `section.key=value`.
        out: run folder; None for `runs/NAME`.
        resume: go on with the run that the folder holds.

    Returns:
        The folder of the trained model, which `cs.load` takes.

    Raises:
        ConfigError: the recipe is wrong.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder cannot be used, or training cannot go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step in flight was finished and saved.
    """
    chosen = load_recipe(recipe, overrides)
    job = SceneJob(chosen, RunFolder(out if out is not None else Path("runs") / chosen.name))
    run_job(job, resume)
    return job.folder.model_path


@dataclass
class SceneJob:
    """Training on scenes."""

    recipe: Recipe
    folder: RunFolder

    def prepare(self) -> None:
        if not self.folder.tokenizer_path.is_file():
            _prepare_tokenizer(self.recipe, self.folder)

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        tokenizer = Tokenizer.load(
            self.folder.tokenizer_path, recipe.model.detector_config().text.context_length
        )
        detector = start_detector(recipe.model, tokenizer)
        return Work(
            task=SceneTask(
                detector,
                DetectionLoss(recipe.loss),
                recipe.preprocessing,
                recipe.weights,
                recipe.data,
                recipe.region_scale,
            ),
            data=_batches(recipe, tokenizer, process, processes),
            tokenizer=tokenizer,
            config=_model_config(recipe),
            validate=SceneValidation(lambda: _validation(recipe, tokenizer), recipe.precision)
            if recipe.validation_batches
            else None,
        )

    def finish(self, task: Task, work: Work) -> ModelConfig:
        task.detector.mask_head.scale_instance_logits(self.recipe.saved_mask_scale)
        return work.config


def _model_config(recipe: Recipe) -> ModelConfig:
    provenance: dict[str, Any] = {"name": recipe.name, "recipe": recipe.name, "data": _data_names(recipe)}
    provenance |= {"steps": recipe.steps, "seed": recipe.seed}
    if recipe.licence is not None:
        provenance["licence"] = recipe.licence
    if recipe.model.start is not None:
        provenance["start"] = recipe.model.start
    if recipe.model.trunk_weights is not None:
        provenance["trunk"] = recipe.model.trunk_weights
    return ModelConfig(
        recipe.model.detector_config(),
        recipe.preprocessing,
        dedupe=recipe.dedupe,
        mask_margin=recipe.mask_margin,
        knows_scenes=recipe.data.draws_scenes,
        provenance=provenance,
    )


def _data_names(recipe: Recipe) -> str:
    """What a model learned from, in words."""
    paths = [source.path for source in recipe.data.sources if isinstance(source, PhotographSource)]
    return ", ".join([*([DRAWN] if recipe.data.draws_scenes else []), *paths])


def _batches(recipe: Recipe, tokenizer: Tokenizer, process: int, processes: int) -> StepBatches:
    if recipe.data.sources:
        return MixedBatches(recipe.data, tokenizer, recipe.seed, process, processes)
    return SceneBatches(recipe.data, tokenizer, recipe.seed, process, processes)


def _prepare_tokenizer(recipe: Recipe, folder: RunFolder) -> None:
    """Take over the tokenizer of the starting model, or train one on what the data is described with."""
    text = recipe.model.detector_config().text
    tokenizer = start_tokenizer(recipe.model)
    if tokenizer is None:
        names = mixture_vocabulary(recipe.data, read_names(recipe.data))
        # Scenes repeat their words thousands of times; names stand in a list once.
        phrases = scene_vocabulary() + names * NAME_REPEATS
        tokenizer = Tokenizer(train_tokenizer(phrases, text.vocab_size), text.context_length)
    with replacing(folder.tokenizer_path) as path:
        tokenizer.save(path)


def _validation(recipe: Recipe, tokenizer: Tokenizer) -> list[Batch]:
    """Batches of held-out data, as the last steps ask them."""
    data: StepBatches = SceneBatches(recipe.data, tokenizer, recipe.seed, split="held_out")
    if recipe.data.sources:
        data = MixedBatches(recipe.data, tokenizer, recipe.seed, held_out=True)
    count = min(recipe.validation_batches, recipe.steps)
    return [data[recipe.steps - 1 - i] for i in range(count)]
