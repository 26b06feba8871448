"""From a distillation recipe to a student's model folder: what `conceptseg distill` and `train` call."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from conceptseg.data.batch import Batch
from conceptseg.data.concept_batches import BatchConfig, ConceptBatches
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.scene_batches import SceneBatches, is_scenes
from conceptseg.data.step_batches import StepBatches
from conceptseg.distil.feature_cache import FeatureCache
from conceptseg.distil.images import ImageBatches, find_images, open_training, square
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.student import at_resolution, check_same_answers, load_student, make_student
from conceptseg.distil.tasks import EncoderDistillation, FusionDistillation, LabelledDistillation
from conceptseg.distil.teacher import Teacher
from conceptseg.errors import ConfigError, ModelNotFoundError
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.config import ModelConfig, PresenceCalibration
from conceptseg.models.detector import Detector
from conceptseg.models.presets import PRESETS
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.prompts import VISUAL
from conceptseg.segmenter import Segmenter
from conceptseg.train.exemplar_alignment import ExemplarAlignment
from conceptseg.train.job import Work, run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest
from conceptseg.train.task import Task
from conceptseg.train.trunk_weights import start_trunk
from conceptseg.train.validation import HeldOutLosses

PROBE = (VISUAL, "a yellow school bus", "Über 12 naïve cafés", "zebra-striped star")


def train_recipe(
    recipe: str | Path,
    overrides: Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Distil by a recipe.

    Args:
        recipe: name of a packaged recipe, or path of a YAML file.
        overrides: `section.key=value`.
        out: run folder; None for `runs/NAME`.
        resume: go on with the run that the folder holds.

    Returns:
        The folder of the student, which `cs.load` takes.

    Raises:
        ConfigError: the recipe is wrong.
        ModelNotFoundError, CheckpointError: teacher or student cannot be loaded.
        DataError: the data cannot be used.
        TrainingError: the folder cannot be used, or training cannot go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step in flight was finished and saved.
    """
    chosen = read_recipe(DistilRecipe, recipe, overrides)
    return distil(chosen, out if out is not None else Path("runs") / chosen.name, resume)


def distil(
    recipe: DistilRecipe,
    out: str | Path,
    resume: bool = False,
    dataset: ConceptDataset | None = None,
    teacher: Segmenter | None = None,
    student: Segmenter | None = None,
    stop: StopRequest | None = None,
) -> Path:
    """Run one stage; see `train_recipe`.

    Args:
        recipe: of the stage.
        out: run folder.
        resume: go on with the run that the folder holds.
        dataset: images in place of the recipe's, whose part they are.
        teacher: a loaded model in place of the one that the recipe names; it is put in eval mode and frozen.
        student: likewise; it keeps its weights, a copy is trained.
        stop: as for `run_job`.
    """
    for name, loaded in (("teacher", teacher), ("student", student)):
        if loaded is None and not getattr(recipe, name):
            raise ConfigError(f"recipe.{name} is empty; say which model ({name}=...)")
    job = DistilJob(recipe, RunFolder(out), dataset, teacher, student)
    run_job(job, resume, stop)
    return job.folder.model_path


@dataclass
class DistilJob:
    """One stage as the common loop runs it."""

    recipe: DistilRecipe
    folder: RunFolder
    dataset: ConceptDataset | None = None
    teacher: Segmenter | None = field(default=None, repr=False)
    student: Segmenter | None = field(default=None, repr=False)

    def prepare(self) -> None:
        """Nothing but the cache lies beside the recipe, and that is filled in `build`."""

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        teacher = Teacher.load(recipe.teacher) if self.teacher is None else Teacher.of(self.teacher)
        detector, tokenizer, config = self._make_student(teacher)
        if recipe.stage > 1:
            check_same_answers(config.architecture, teacher.config.architecture)
        _check_same_words(tokenizer, teacher.tokenizer, recipe)
        task = self._task(detector, teacher, config)
        # The auxiliary queries have no counterpart in the teacher, which is in eval mode.
        task.use_one_to_many(False)
        data = self._data(teacher, tokenizer, config, process, processes)
        validate = None
        if recipe.validation_batches and process == 0:
            validate = HeldOutLosses(lambda: self._held_out(tokenizer, data), recipe.precision)
        return Work(task, data, tokenizer, config, validate)

    def finish(self, task: Task, work: Work) -> ModelConfig:
        return work.config

    def _make_student(self, teacher: Teacher) -> tuple[Detector, Tokenizer, ModelConfig]:
        recipe = self.recipe
        theirs = teacher.config
        fresh_parts: list[str] = []
        begins_by_preset = recipe.stage == 1 or recipe.inherit
        if self.student is not None:
            student = self.student
            loaded = copy.deepcopy(student.detector), student.tokenizer, student.config
            detector, tokenizer, config = at_resolution(loaded, recipe.resolution)
        elif recipe.student in PRESETS and begins_by_preset and not Path(recipe.student).exists():
            parts = (teacher.detector("cpu"), teacher.tokenizer, theirs)
            detector, tokenizer, config, fresh = make_student(
                parts,
                recipe.student,
                recipe.architecture,
                recipe.resolution,
                recipe.inherit,
                recipe.trunk_blocks,
            )
            if recipe.trunk_weights is not None:
                start_trunk(detector.vision_encoder, config.architecture.vision, recipe.trunk_weights)
            fresh_parts = sorted({name.split(".")[0] for name in fresh})
        else:
            if recipe.architecture:
                raise ConfigError("recipe.architecture changes a preset; a model keeps its own architecture")
            if recipe.trunk_weights is not None:
                raise ConfigError("recipe.trunk_weights begins a preset; a model keeps its own trunk")
            try:
                detector, tokenizer, config = load_student(recipe.student, recipe.resolution)
            except ModelNotFoundError as error:
                if recipe.student not in PRESETS:
                    raise
                raise ConfigError(
                    f"student is the preset {recipe.student!r}, which stage 1 begins with; stage "
                    f"{recipe.stage} goes on with the model of the stage before (RUN/model)"
                ) from error
        provenance: dict[str, Any] = {"name": recipe.name, "recipe": f"distil, stage {recipe.stage}"}
        provenance |= {
            "teacher": str(theirs.provenance.get("name", recipe.teacher)),
            "student": recipe.student or str(config.provenance.get("name", "model")),
        }
        provenance |= {"data": recipe.data.source, "steps": recipe.steps, "seed": recipe.seed}
        if fresh_parts:
            provenance["fresh"] = fresh_parts
        if recipe.trunk_weights is not None:
            provenance["trunk"] = recipe.trunk_weights
        licence = recipe.licence or theirs.provenance.get("licence")
        if licence is not None:
            provenance["licence"] = licence
        # Raw presence logits are matched, so what reads the teacher's logits reads the student's. Labels
        # teach logits that need no further reading.
        mode, calibration = theirs.presence_mode, theirs.presence_calibration
        if recipe.stage == 3:
            mode, calibration = "multiply", PresenceCalibration()
        config = dataclasses.replace(
            config,
            presence_calibration=calibration,
            presence_mode=mode,
            knows_scenes=is_scenes(recipe.data.source),
            provenance=provenance,
        )
        return detector, tokenizer, config

    def _task(self, detector: Detector, teacher: Teacher, config: ModelConfig) -> Task:
        recipe, given = self.recipe, config.preprocessing
        if recipe.stage == 1:
            return EncoderDistillation(detector, teacher, given, recipe.weights)
        alignment = None
        if recipe.alignment is not None:
            width, phases = detector.config.width, recipe.alignment_phases
            alignment = ExemplarAlignment(width, recipe.alignment, phases, recipe.steps)
        if recipe.stage == 2:
            return FusionDistillation(detector, teacher, given, recipe.weights, recipe.masks, alignment)
        return LabelledDistillation(
            detector,
            teacher,
            given,
            recipe.weights,
            recipe.masks,
            DetectionLoss(recipe.loss),
            recipe.labels,
            recipe.labels_share,
            alignment,
        )

    def _data(
        self, teacher: Teacher, tokenizer: Tokenizer, config: ModelConfig, process: int, processes: int
    ) -> StepBatches:
        recipe, source = self.recipe, self.recipe.data
        if is_scenes(source.source):
            return SceneBatches(recipe.scenes(), tokenizer, recipe.seed, process, processes)
        resolution = max(teacher.resolution, config.preprocessing.resolution)
        if recipe.stage > 1:
            dataset = self.dataset or open_training(source)
            return ConceptBatches(
                dataset,
                tokenizer,
                BatchConfig(source.images, source.questions, source.workers, source.kinds, source.augment),
                steps=recipe.steps,
                resolution=resolution,
                turns=False,
                seed=recipe.seed,
                process=process,
                processes=processes,
            )
        paths, phrases = find_images(source, self.dataset)
        cache = None
        if source.cache is not None:
            cache = FeatureCache(Path(source.cache), teacher.fingerprint, paths, teacher.resolution)
            fill_cache(cache, teacher, paths, source.cache_limit_gb, process, processes)
        return ImageBatches(
            paths,
            phrases,
            source,
            tokenizer,
            steps=recipe.steps,
            resolution=resolution,
            seed=recipe.seed,
            process=process,
            processes=processes,
            cache=cache,
        )

    def _held_out(self, tokenizer: Tokenizer, data: StepBatches) -> list[Batch]:
        """Held-out scenes; of files, batches of steps that the run does not reach."""
        recipe = self.recipe
        count = min(recipe.validation_batches, recipe.steps)
        if isinstance(data, SceneBatches):
            held = SceneBatches(recipe.scenes(), tokenizer, recipe.seed, split="held_out")
            return [held[recipe.steps - 1 - i] for i in range(count)]
        return [data[recipe.steps + i] for i in range(count)]


def fill_cache(
    cache: FeatureCache,
    teacher: Teacher,
    paths: Sequence[Path],
    limit_gb: float,
    process: int = 0,
    processes: int = 1,
) -> None:
    """Say how much the teacher's features will take, then compute those that are missing.

    Several processes each compute their share, so that none waits for hours, which ends in a time-out.

    Raises:
        ConfigError: they would take more than the limit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def features(numbers: Sequence[int]) -> list[torch.Tensor]:
        pixels = torch.stack([square(paths[number], teacher.resolution) for number in numbers])
        return teacher.encode_images(pixels.to(device)).levels

    size = cache.estimate(features([0]))
    if process == 0:
        print(f"the teacher's features take {size}", file=sys.stderr)
    if size.gigabytes > limit_gb:
        raise ConfigError(
            f"the teacher's features would take {size}, more than data.cache_limit_gb = {limit_gb:g}; raise "
            "it, take fewer images, or leave data.cache out and compute them in every step"
        )
    cache.fill(features, process, processes)


def _check_same_words(student: Tokenizer, teacher: Tokenizer, recipe: DistilRecipe) -> None:
    """Refuse text losses between tokens that do not correspond.

    Raises:
        ConfigError: the tokenizers cut phrases differently.
    """
    length = min(student.context_length, teacher.context_length)
    same = torch.equal(student.with_context_length(length)(PROBE), teacher.with_context_length(length)(PROBE))
    if not same and (recipe.weights.text_mse or recipe.weights.text_cosine):
        raise ConfigError(
            "student and teacher have different tokenizers, so their words do not correspond; set "
            "weights.text_mse and weights.text_cosine to 0, or begin from a preset"
        )
