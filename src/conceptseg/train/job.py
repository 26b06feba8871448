"""From a recipe to a run folder, whatever the task: what all of them do before and after the loop.

A job says what is special: what lies in the folder before training starts, what is trained on what, and what
is done to the trained model. `run_job` runs it in one process or in several, and saves the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.data.step_batches import StepBatches
from conceptseg.errors import ConceptSegError, TrainingError
from conceptseg.extras import require
from conceptseg.models.config import ModelConfig
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.train.run_config import RunConfig
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest

if TYPE_CHECKING:
    from conceptseg.train.task import Task
    from conceptseg.train.validation import Validate


@dataclass
class Work:
    """What one process trains, on what, how it is judged, and what makes a model of it again."""

    task: Task
    data: StepBatches
    tokenizer: Tokenizer
    config: ModelConfig  # of the detector that is trained
    validate: Validate | None = None  # the main process alone asks
    ends_with_best: bool = False  # with the weights of the best validation instead of the last ones


class Job(Protocol):
    """One run of one task."""

    @property
    def recipe(self) -> RunConfig: ...

    @property
    def folder(self) -> RunFolder: ...

    def prepare(self) -> None:
        """Write what the run needs beside its recipe; the main process alone, again when it resumes."""

    def build(self, process: int, processes: int) -> Work:
        """Make what this process works with; random numbers are seeded with the recipe's seed."""

    def finish(self, task: Task, work: Work) -> ModelConfig:
        """Do to the trained model what is special about this job; the main process alone.

        Args:
            task: trained, with the names of an ordinary model; changed in place.
            work: as it was built.

        Returns:
            The config that the model is saved with.
        """


def run_job(job: Job, resume: bool = False, stop: StopRequest | None = None) -> None:
    """Train, and save the model in the folder of the run.

    Started by `torchrun` or `accelerate launch`, several processes train together: each takes other data, a
    step is as many times larger, and the main one writes the run folder.

    Args:
        job: of any task.
        resume: go on with the run that the folder holds.
        stop: whoever runs several jobs asks them to stop with this; None: Ctrl-C and SIGTERM do.

    Raises:
        ConfigError: the recipe is wrong.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder cannot be used, or training cannot go on.
        KeyboardInterrupt: a stop was requested; the step in flight was finished and saved.
    """
    require("train", "training")
    # After that check, because these import the packages it looks for.
    from accelerate import Accelerator, DistributedDataParallelKwargs

    from conceptseg.models.cpu.swap import fast_on_cpu
    from conceptseg.train.loop import Trainer
    from conceptseg.train.lora import add_lora, merge_lora
    from conceptseg.train.recompute import forget_activations

    # Which parameters a step uses depends on its prompts (boxes or none) and its stage.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[parallel])  # the loop casts by itself
    state = job.folder.load(job.recipe) if resume else None
    _check_processes(state, accelerator.num_processes)
    if accelerator.is_main_process:
        if resume:
            job.folder.rewind(int(state["step"]) if state is not None else 0)
        else:
            job.folder.start(job.recipe)
        with _abandoned_if_wrong(job, resume):
            job.prepare()
    # Nobody replaces the checkpoint before everybody has read it, or reads the folder before all is there.
    accelerator.wait_for_everyone()

    torch.manual_seed(job.recipe.seed)
    with _abandoned_if_wrong(job, resume or not accelerator.is_main_process):
        work = job.build(accelerator.process_index, accelerator.num_processes)
        if job.recipe.trainable or job.recipe.lora.rank:
            work.task.train_only(job.recipe.trainable)
        work.task.freeze(job.recipe.frozen)
        if job.recipe.rest_batch_norm:
            work.task.rest_batch_norm()
        fast_on_cpu(work.task.detector)
        if job.recipe.checkpoint_activations:
            forget_activations(work.task.detector)
        if job.recipe.lora.rank:
            add_lora(work.task.detector, job.recipe.lora)
    trainer = Trainer(job.recipe, work.task, work.data, work.validate, job.folder, accelerator, stop)
    trained = trainer.run(state)
    if accelerator.is_main_process:
        if work.ends_with_best:
            job.folder.load_best(trained)
        merge_lora(trained.detector)
        config = job.finish(trained, work)
        dtype = getattr(torch, job.recipe.weights_dtype)
        save_model_folder(job.folder.model_path, trained.detector, work.tokenizer, config, dtype)
    accelerator.end_training()


@contextmanager
def _abandoned_if_wrong(job: Job, kept: bool) -> Iterator[None]:
    """Leave no folder behind that a mended command would be refused for; `kept` ones are left as they are."""
    try:
        yield
    except ConceptSegError:
        if not kept:
            job.folder.abandon()
        raise


def _check_processes(state: dict[str, Any] | None, processes: int) -> None:
    before = processes if state is None else int(state.get("processes", 1))
    if before != processes:
        raise TrainingError(
            f"the run was begun with {before} processes and not {processes}: its steps would change size; "
            f"resume with {before}"
        )
