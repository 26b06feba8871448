"""Fine-tune a model on data of one's own: what `conceptseg finetune` calls."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.loaders import LoadedModel, load_checkpoint
from conceptseg.choices import TrainedPart
from conceptseg.data.concept_batches import ConceptBatches
from conceptseg.data.concept_data import dataset_name
from conceptseg.data.scene_batches import DRAWN
from conceptseg.errors import ConfigError
from conceptseg.extras import require
from conceptseg.finetune.averaging import average_with_start
from conceptseg.finetune.comparison import Comparison, calibrated, compare, uncalibrated, with_config
from conceptseg.finetune.forecast import SizedBatches, forecast, in_words
from conceptseg.finetune.open_entries import settle, without_up
from conceptseg.finetune.queries import with_more_queries
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.finetune.rehearsal import FOLDER, RehearsedBatches, draw_scenes, open_rehearsal, rehearsals
from conceptseg.finetune.report import REPORT, Spent, write_report
from conceptseg.finetune.splits import TrainAndJudge, spread, train_and_judge
from conceptseg.finetune.validation import DatasetValidation, at_resolution
from conceptseg.hub import find_model
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.segmenter import Segmenter
from conceptseg.train.exemplar_alignment import AlignTask, ExemplarAlignment
from conceptseg.train.job import Work, run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import DetectionTask, Task


@dataclass(frozen=True)
class Tuned:
    """What a run leaves.

    Attributes:
        model: folder that `cs.load` takes.
        report: figures and pictures, before and after.
        comparison: the figures; None in all but the main one of several processes.
    """

    model: Path
    report: Path
    comparison: Comparison | None = field(repr=False)


def finetune(
    data: str | os.PathLike[str],
    model: str = "nano",
    out: str | os.PathLike[str] | None = None,
    *,
    epochs: float | None = None,
    only: TrainedPart | None = None,
    resolution: int | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Tuned:
    """Fine-tune a model on labelled images.

    Started by `torchrun` or `accelerate launch`, several processes train together.

    Args:
        data: COCO, Roboflow, SA-Co or YOLO; masks, or boxes only.
        model: embedded name, path, or Hugging Face repository.
        out: run folder; None for `runs/finetune`.
        epochs: passes through the data; None: 25, yet 300 to 800 steps, and those that rehearse.
        only: train "presence", "exemplar", "heads" or "all"; None: all of a small network, the heads of a
            large one.
        resolution: side in pixels of the square that images are stretched to; None: chosen from the size of
            the objects.
        overrides: any other entry of the recipe, `section.key=value`.
        values: likewise as Python has them: {"batch.composites": CompositeConfig()}.
        resume: go on with the run that the folder holds.

    Raises:
        ConfigError: an entry of the recipe is wrong.
        DataError: the data cannot be used.
        ModelNotFoundError, CheckpointError: the model cannot be.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder cannot be used, or training cannot go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step in flight was finished and saved.
    """
    given = read_recipe(FinetuneRecipe, "finetune", overrides, values)
    given = dataclasses.replace(
        given,
        data=os.fspath(data),
        model=model,
        epochs=given.epochs if epochs is None else epochs,
        only=given.only if only is None else only,
        resolution=given.resolution if resolution is None else resolution,
    )
    return _run(given, out, resume)


def train_recipe(
    recipe: str | Path,
    overrides: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Path:
    """Fine-tune by a recipe; it must say `data`, unless an override does.

    Returns:
        The folder of the tuned model.

    Raises:
        As `finetune`.
    """
    given = read_recipe(FinetuneRecipe, recipe, overrides)
    if not given.data:
        raise ConfigError("the recipe does not say what to train on; add data=FOLDER")
    return _run(given, out, resume).model


def _run(given: FinetuneRecipe, out: str | os.PathLike[str] | None, resume: bool) -> Tuned:
    require("train", "training")
    folder = RunFolder(Path(out) if out is not None else Path("runs") / given.name)
    folder.check(resume)
    job = open_job(given, folder)
    job.resumed = resume
    run_job(job, resume)
    return Tuned(folder.model_path, folder.path / REPORT, job.comparison)


def open_job(given: FinetuneRecipe, folder: RunFolder) -> FinetuneJob:
    """Open data and model, and settle the recipe."""
    parts = train_and_judge(given.data, given.split, given.held_out, given.held_out_images, given.seed)
    model = load_checkpoint(find_model(given.model))
    recipe = settle(given, parts.train, model[2])
    if recipe.keep.data is not None:
        open_rehearsal(recipe.keep.data)  # what is wrong with it is told now
    return FinetuneJob(recipe, folder, parts, model)


@dataclass
class FinetuneJob:
    """One fine-tuning run."""

    recipe: FinetuneRecipe
    folder: RunFolder
    parts: TrainAndJudge
    model: LoadedModel = field(repr=False)
    resumed: bool = False
    began: float = field(default_factory=time.perf_counter)
    comparison: Comparison | None = field(default=None, repr=False)  # in the main process, when it is done

    def prepare(self) -> None:
        with replacing(self.folder.tokenizer_path) as path:
            self.model[1].save(path)
        if self.recipe.keep.rehearsal and self.recipe.keep.data is None:
            draw_scenes(self.folder.path / FOLDER, self.recipe.keep, self.recipe.seed)

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        detector, tokenizer, _ = self.model
        assert recipe.queries is not None and recipe.query_side is not None
        detector = with_more_queries(detector, recipe.queries, recipe.query_side)
        config = self._tuned_config()
        task = tuning_task(recipe, detector, config)
        task.use_one_to_many(recipe.one_to_many)
        task.rest_batch_norm()
        data, look = self._batches(process, processes), self._look()
        if process == 0 and not self.resumed:
            self._announce(task, data, look)
        return Work(task, data, tokenizer, config, look, ends_with_best=True)

    def _announce(self, task: Task, data: SizedBatches, look: DatasetValidation) -> None:
        """Say what will be done and, on a CPU, how long it will take."""
        recipe, parts = self.recipe, self.parts
        share = recipe.keep.rehearsal or 0.0
        old = f", {rehearsals(recipe.steps, share):,} of them on old pictures" if share else ""
        say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print
        say(
            f"{parts.train.name}: {len(parts.train):,} images to train on, {len(parts.judge):,} to judge on; "
            f"{recipe.steps:,} steps of {recipe.batch.images} images at {recipe.resolution} px{old}"
        )
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            return  # the progress bar will tell: nothing can be timed before the model is on the device
        if recipe.trainable:
            task.train_only(recipe.trainable)
        say(
            f"this will take {in_words(forecast(task, data, look, self.parts.judge, recipe))} on this machine"
        )

    def _batches(self, process: int, processes: int) -> SizedBatches:
        """The new data's, and between them the old data's where the recipe rehearses."""
        recipe, tokenizer = self.recipe, self.model[1]
        assert recipe.resolution is not None and recipe.keep.rehearsal is not None
        new = ConceptBatches(
            self.parts.train,
            tokenizer,
            recipe.batch,
            steps=recipe.steps,
            resolution=recipe.resolution,
            window_resolution=recipe.window_resolution,
            turns=bool(recipe.batch.augment.turns),
            seed=recipe.seed,
            process=process,
            processes=processes,
        )
        if not recipe.keep.rehearsal:
            return new
        dataset = open_rehearsal(recipe.keep.data or self.folder.path / FOLDER)
        old = ConceptBatches(
            dataset,
            tokenizer,
            recipe.batch,
            steps=recipe.steps,
            resolution=recipe.resolution,
            window_resolution=recipe.window_resolution,
            turns=without_up(dataset.phrases),
            seed=recipe.seed + 1,
            process=process,
            processes=processes,
        )
        return RehearsedBatches(new, old, recipe.keep.rehearsal)

    def _look(self) -> DatasetValidation:
        some = spread(self.parts.judge, self.recipe.look_images)
        return DatasetValidation(some, self.model[1], self._tuned_config(), self.recipe.precision)

    def finish(self, task: Task, work: Work) -> ModelConfig:
        """Average the best weights with the start's, calibrate, compare and report."""
        recipe, judge = self.recipe, self.parts.judge
        start = load_checkpoint(find_model(recipe.model))
        with Console(stderr=True).status("comparing before and after"):
            share = self._average(task, start[0])
            after, result = calibrated(
                Segmenter(task.detector, work.tokenizer, uncalibrated(work.config)), judge
            )
            before = Segmenter(*start, device=after.device)
            found = compare(before, after, result, judge, recipe.scenes)
        after = with_config(after, self._described(after.config, share, found.threshold))
        self.comparison = found
        spent = Spent(time.perf_counter() - self.began, sum(os.times()[:4]))
        write_report(self.folder, recipe, found, (before, after), judge, spent)
        shutil.rmtree(self.folder.path / FOLDER, ignore_errors=True)
        return after.config

    def _described(self, config: ModelConfig, share: float, threshold: float | None) -> ModelConfig:
        recipe = self.recipe
        provenance = {
            **config.provenance,
            "name": recipe.name,
            "finetuned_from": recipe.model,
            "data": self.parts.judge.name,
            "steps": recipe.steps,
            "tuned_share": share,
            "recommended_threshold": threshold,
        }
        if recipe.keep.rehearsal:
            provenance["rehearsed"] = DRAWN if recipe.keep.data is None else dataset_name(recipe.keep.data)
        if recipe.licence is not None:
            provenance["licence"] = recipe.licence
        scenes = bool(recipe.keep.rehearsal) and recipe.keep.data is None
        return dataclasses.replace(config, knows_scenes=scenes, provenance=provenance)

    def _average(self, task: Task, start: Detector) -> float:
        """Average the tuned weights with the start's; the share of the tuned ones."""
        recipe = self.recipe
        assert recipe.queries is not None and recipe.query_side is not None
        if recipe.keep.tuned_share == 1:
            return 1.0
        state = with_more_queries(start, recipe.queries, recipe.query_side).state_dict()
        return average_with_start(task, state, self._look(), recipe.keep.tuned_share, recipe.keep.loss)

    def _tuned_config(self) -> ModelConfig:
        """Of the model that is trained: the start's, with the recipe's square and queries."""
        config = self.model[2]
        assert self.recipe.resolution is not None and self.recipe.queries is not None
        queries = max(config.architecture.decoder.queries, self.recipe.queries)
        decoder = dataclasses.replace(config.architecture.decoder, queries=queries)
        architecture = dataclasses.replace(config.architecture, decoder=decoder)
        config = dataclasses.replace(config, architecture=architecture)
        return at_resolution(config, self.recipe.resolution)


def tuning_task(recipe: FinetuneRecipe, detector: Detector, config: ModelConfig) -> DetectionTask:
    """Detection, and the alignment of example boxes where the recipe asks for it."""
    loss, given = DetectionLoss(recipe.loss), config.preprocessing
    if recipe.alignment is None:
        return DetectionTask(detector, loss, given, recipe.weights)
    width, phases = config.architecture.width, recipe.alignment_phases
    alignment = ExemplarAlignment(width, recipe.alignment, phases, recipe.steps)
    return AlignTask(detector, loss, given, recipe.weights, alignment)
