"""From a recipe to a trained model folder: what `conceptseg train` calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.data.batch import Batch
from conceptseg.data.scene_batches import SceneBatches, scene_vocabulary
from conceptseg.errors import ConfigError, TrainingError
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train.extra import require_training_packages
from conceptseg.train.recipe import Recipe, load_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import DetectionTask


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
    require_training_packages()
    # After that check, because these import the packages it looks for.
    from accelerate import Accelerator, DistributedDataParallelKwargs

    from conceptseg.train.loop import Trainer

    chosen = load_recipe(recipe, overrides)
    folder = RunFolder(out if out is not None else Path("runs") / chosen.name)
    # Which parameters a step uses depends on its prompts (boxes or none) and its stage.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[parallel])  # the loop casts by itself
    state = folder.load(chosen) if resume else None
    _check_processes(state, accelerator.num_processes)
    if accelerator.is_main_process:
        if resume:
            folder.rewind(int(state["step"]) if state is not None else 0)
        else:
            folder.start(chosen)
        if not folder.tokenizer_path.is_file():
            _prepare_tokenizer(chosen, folder)
    # Nobody replaces the checkpoint before everybody has read it, or reads the tokenizer before it is there.
    accelerator.wait_for_everyone()

    torch.manual_seed(chosen.seed)
    detector, config = _start(chosen)
    tokenizer = Tokenizer.load(folder.tokenizer_path, config.architecture.text.context_length)
    index, count = accelerator.process_index, accelerator.num_processes
    trainer = Trainer(
        recipe=chosen,
        task=DetectionTask(detector, DetectionLoss(chosen.loss), chosen.preprocessing),
        data=SceneBatches(chosen.data, tokenizer, chosen.seed, index, count),
        validation=_validation(chosen, tokenizer) if accelerator.is_main_process else [],
        folder=folder,
        accelerator=accelerator,
    )
    trained = trainer.run(state)
    if accelerator.is_main_process:
        dtype = getattr(torch, chosen.weights_dtype)
        save_model_folder(folder.model_path, trained.detector, tokenizer, config, dtype)
    accelerator.end_training()
    return folder.model_path


def _check_processes(state: dict[str, Any] | None, processes: int) -> None:
    before = processes if state is None else int(state.get("processes", 1))
    if before != processes:
        raise TrainingError(
            f"the run was begun with {before} processes and not {processes}: its steps would change size; "
            f"resume with {before}"
        )


def _start(recipe: Recipe) -> tuple[Detector, ModelConfig]:
    """The detector that training starts from."""
    provenance: dict[str, Any] = {"name": recipe.name, "recipe": recipe.name}
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
    return detector, ModelConfig(architecture, recipe.preprocessing, provenance=provenance)


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
