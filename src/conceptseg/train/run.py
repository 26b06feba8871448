"""From a recipe of scenes to a trained model folder: what `conceptseg train` calls for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.data.batch import Batch
from conceptseg.data.scene_batches import SCENES, SceneBatches, scene_vocabulary
from conceptseg.errors import ConfigError
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train.job import Work, run_job
from conceptseg.train.lora import merge_lora
from conceptseg.train.recipe import Recipe, load_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import SceneTask, Task
from conceptseg.train.validation import SceneValidation


def train_recipe(
    recipe: str | Path,
    overrides: list[str] | None = None,
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
        detector, self._config = _start(recipe)
        tokenizer = self._tokenizer()
        return Work(
            task=SceneTask(
                detector, DetectionLoss(recipe.loss), recipe.preprocessing, recipe.weights, recipe.data
            ),
            data=SceneBatches(recipe.data, tokenizer, recipe.seed, process, processes),
            validate=SceneValidation(lambda: _validation(recipe, tokenizer), recipe.precision)
            if recipe.validation_batches
            else None,
        )

    def finish(self, task: Task) -> None:
        dtype = getattr(torch, self.recipe.weights_dtype)
        merge_lora(task.detector)
        task.detector.mask_head.scale_instance_logits(self.recipe.saved_mask_scale)
        save_model_folder(self.folder.model_path, task.detector, self._tokenizer(), self._config, dtype)

    def _tokenizer(self) -> Tokenizer:
        length = self.recipe.model.detector_config().text.context_length
        return Tokenizer.load(self.folder.tokenizer_path, length)


def _start(recipe: Recipe) -> tuple[Detector, ModelConfig]:
    """The detector that training starts from."""
    provenance: dict[str, Any] = {"name": recipe.name, "recipe": recipe.name, "data": SCENES}
    provenance |= {"steps": recipe.steps, "seed": recipe.seed}
    if recipe.licence is not None:
        provenance["licence"] = recipe.licence
    architecture = recipe.model.detector_config()
    if recipe.model.start is None:
        detector = build_detector(architecture)
    else:
        started, _, loaded = load_model_folder(recipe.model.start)
        if loaded.architecture != architecture and not recipe.model.start_partly:
            raise ConfigError(
                f"model.start {recipe.model.start} has another architecture than model.preset "
                f"{recipe.model.preset!r} with model.architecture laid over it; "
                "model.start_partly=true takes the weights that fit"
            )
        detector = build_detector(architecture)
        take_weights(detector, started, recipe.model.start_without)
        provenance["start"] = recipe.model.start
    return detector, ModelConfig(
        architecture,
        recipe.preprocessing,
        dedupe=recipe.dedupe,
        mask_margin=recipe.mask_margin,
        provenance=provenance,
    )


def take_weights(detector: Detector, other: Detector, without: tuple[str, ...] = ()) -> list[str]:
    """Copy every tensor that has the same name and shape in both, except those of the parts in `without`.

    Returns:
        The names that stay as they are.
    """
    theirs, ours = other.state_dict(), detector.state_dict()
    taken = {
        name: theirs[name]
        for name, value in ours.items()
        if _same_shape(theirs.get(name), value) and name.split(".")[0] not in without
    }
    detector.load_state_dict({**ours, **taken})
    return sorted(set(ours) - set(taken))


def _same_shape(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    return one is not None and one.shape == other.shape


def _prepare_tokenizer(recipe: Recipe, folder: RunFolder) -> None:
    """Train a tokenizer on what scenes are described with, or take over the one of the starting model."""
    text = recipe.model.detector_config().text
    if recipe.model.start is not None:
        tokenizer = Tokenizer.load(Path(recipe.model.start) / "tokenizer.json", text.context_length)
    else:
        tokenizer = Tokenizer(train_tokenizer(scene_vocabulary(), text.vocab_size), text.context_length)
    with replacing(folder.tokenizer_path) as path:
        tokenizer.save(path)


def _validation(recipe: Recipe, tokenizer: Tokenizer) -> list[Batch]:
    """Batches of held-out scenes, as the last steps ask them."""
    data = SceneBatches(recipe.data, tokenizer, recipe.seed, split="held_out")
    count = min(recipe.validation_batches, recipe.steps)
    return [data[recipe.steps - 1 - i] for i in range(count)]
