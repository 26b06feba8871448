"""The study: a teacher, its student after stage 1, and each repair of it, over several seeds.

    FOLDER/study.yaml                     what was asked for
    FOLDER/weights.json                   which weights of the teacher it is about
    FOLDER/teacher.json                   the teacher, judged
    FOLDER/seed-0/stage-1/                run folder of stage 1; its model is what is repaired
    FOLDER/seed-0/diagnosis/              of that student against its teacher
    FOLDER/seed-0/stage-1.json            that student, judged, with the values of every image
    FOLDER/seed-0/NAME/, NAME.json        each repair: a model folder, and what it is worth and cost
    FOLDER/study.json, report.md, *.png   all of it
    FOLDER/locks/                         which process is at what

Every finished part is kept, and a study that was stopped goes on with the part that it was in. All seeds are
judged on the same images; what is fitted on differs. Several processes may work on one folder: each takes the
next seed that none of the others has.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.scene_batches import is_scenes
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.run import distil
from conceptseg.errors import ConfigError, OptionError, TrainingError
from conceptseg.extras import require
from conceptseg.loading import load
from conceptseg.models.config import config_from_dict
from conceptseg.presence.diagnosis import diagnose
from conceptseg.presence.judgement import Judgement, judge_images, summed_up
from conceptseg.presence.labelled_data import fitting_data
from conceptseg.presence.repairing import REPAIR, SPENT, check_repair, write_repaired
from conceptseg.presence.repairs.case import RepairCase, RepairOptions
from conceptseg.presence.report import write_diagnosis
from conceptseg.presence.stopwatch import read_spent, stopwatch
from conceptseg.presence.study_report import STUDY, StudyPart, write_study
from conceptseg.prompts import VISUAL
from conceptseg.segmenter import Segmenter
from conceptseg.study.pinned import keep_to_weights
from conceptseg.study.shared_work import LOCKS, claim, refuse_others
from conceptseg.train.recipe_file import read_recipe, recipe_values
from conceptseg.train.run_config import check
from conceptseg.train.stop import StopRequest, stop_requests

RECIPE = "study.yaml"


@dataclass(frozen=True)
class RepairChoice:
    """One line of the study's table."""

    name: str = ""  # of its folder, and in the table
    method: str = "calibrate"
    labels: str = "all"
    offset_only: bool = False
    matching: str = "ranks"
    overrides: tuple[str, ...] = ()  # of the method's recipe: "steps=100", of one stage "2.steps=100"
    images: int | None = None  # so many of those that are fitted on, evenly spread over them; None: all

    def __post_init__(self) -> None:
        plain = bool(self.name) and not set("/\\.") & set(self.name)
        check(plain and self.name != "stage-1", "repairs.name", self.name, "fit to be the name of a folder")
        check(self.images is None or self.images >= 1, "repairs.images", self.images, "1 or more")
        try:
            check_repair(self.method, self.options(teacher="the study's"))
        except (OptionError, ConfigError) as error:
            raise ConfigError(f"repairs: {self.name}: {error}") from error

    def part_of(self, fit: ConceptDataset) -> ConceptDataset:
        """What it is fitted on."""
        if self.images is None or self.images >= len(fit):
            return fit
        return fit.part([number * len(fit) // self.images for number in range(self.images)])

    def options(self, **others: Any) -> RepairOptions:
        """As a repair takes them, with what does not belong to the choice."""
        return RepairOptions(
            labels=self.labels,  # type: ignore[arg-type]  # checked there
            offset_only=self.offset_only,
            matching=self.matching,  # type: ignore[arg-type]
            overrides=self.overrides,
            **others,
        )


@dataclass(frozen=True)
class StudyRecipe:
    """What a study does; `presence-study` is the packaged one."""

    name: str = "presence-study"
    task: str = "presence-study"
    teacher: str = "nano"
    student: str = "nano-student"
    stage_1: tuple[str, ...] = ()  # overrides of the recipe distil-1
    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = "scenes"
    fit_images: int = 200
    judge_images: int = 100
    phrases: int | None = 4  # of each kind and image, in the diagnosis
    threshold: float = 0.5
    repairs: tuple[RepairChoice, ...] = field(default_factory=tuple)
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        check(bool(self.seeds), "seeds", list(self.seeds), "at least one")
        names = [choice.name for choice in self.repairs]
        check(len(set(names)) == len(names), "repairs", names, "of different names")
        for name in ("fit_images", "judge_images"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


def read_study(source: str | Path, overrides: Sequence[str] | None = None) -> StudyRecipe:
    """Read a study's recipe.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    return study_of(recipe_values(source, overrides))


def study_of(values: Mapping[str, Any]) -> StudyRecipe:
    """A study's recipe from plain values; errors as of `read_study`."""
    choices = values.get("repairs", [])
    if not isinstance(choices, list):
        raise ConfigError("recipe.repairs must be a list")
    recipe = config_from_dict(StudyRecipe, {**values, "repairs": []}, "recipe")
    repairs = [config_from_dict(RepairChoice, it, f"recipe.repairs[{i}]") for i, it in enumerate(choices)]
    read_recipe(DistilRecipe, "distil-1", list(recipe.stage_1))  # a typo is said now and not in an hour
    return dataclasses.replace(recipe, repairs=tuple(repairs))


def run_study(
    recipe: StudyRecipe,
    out: str | Path,
    resume: bool = False,
    minutes: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Run what is not done yet, and write the report.

    Args:
        recipe: see `StudyRecipe`.
        out: folder of the study.
        resume: go on with the one that the folder holds, beside other processes that do; with none, begin it.
        minutes: stop after so long, when the step of training or the image in flight is done; None: run to
            the end.
        progress: told what is being done.

    Returns:
        Path of the report.

    Raises:
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder holds another study.
        CheckpointError: it was begun with other weights of the teacher.
        KeyboardInterrupt: stopped, by the clock or by the user; everything so far is kept and reported.
    """
    require("train", "training")
    folder = Path(out)
    refuse_others(folder, RECIPE)
    with claim(folder / LOCKS / RECIPE, wait=True):
        _begin(recipe, folder, resume)
        keep_to_weights(folder, recipe.teacher)
    with stop_requests(minutes) as stop:
        study = Study(recipe, folder, progress or (lambda what: None), stop)
        try:
            study.run()
        except KeyboardInterrupt:
            study.report()
            raise KeyboardInterrupt(f"stopped; {folder} holds what is done, go on with --resume") from None
        return study.report()


class Study:
    """One study in its folder."""

    def __init__(
        self, recipe: StudyRecipe, folder: Path, say: Callable[[str], None], stop: StopRequest
    ) -> None:
        self.recipe, self.folder, self._say, self._stop = recipe, folder, say, stop
        self._teacher: Segmenter | None = None

    def run(self) -> None:
        with claim(self.folder / LOCKS / "teacher") as ours:
            if ours and not (self.folder / "teacher.json").is_file():
                with self._data(self.recipe.seeds[0]) as (_, judging):
                    self._start("judging the teacher")
                    self._save("teacher", self._judged(self.teacher, judging))
        for seed in self.recipe.seeds:
            with claim(self.folder / LOCKS / f"seed-{seed}") as ours:
                if ours:
                    self._student(seed)

    @property
    def teacher(self) -> Segmenter:
        if self._teacher is None:
            self._teacher = self._load(self.recipe.teacher)
        return self._teacher

    def parts(self) -> list[StudyPart]:
        """What is done so far, in the order of the table."""
        names = ["teacher", *(f"seed-{seed}/stage-1" for seed in self.recipe.seeds)]
        names += [f"seed-{seed}/{it.name}" for it in self.recipe.repairs for seed in self.recipe.seeds]
        found = []
        for name in names:
            file = self.folder / f"{name}.json"
            if file.is_file():
                values = json.loads(file.read_text(encoding="utf-8"))
                judgement = Judgement.from_dict(values["judgement"])
                counts = [image["counts"] for image in values["images"]]
                seed, part = name.split("/") if "/" in name else ("", name)
                found.append(StudyPart(part, judgement, values["spent"], values["model"], seed, counts))
        return found

    def report(self) -> Path:
        diagnoses = [self.folder / f"seed-{seed}" / "diagnosis" for seed in self.recipe.seeds]
        # One that has seen fewer parts could be written last, if processes did not wait for each other.
        with claim(self.folder / LOCKS / STUDY, wait=True):
            return write_study(
                self.folder,
                dataclasses.asdict(self.recipe),
                self.parts(),
                [path for path in diagnoses if (path / "diagnosis.json").is_file()],
            )

    def _student(self, seed: int) -> None:
        with self._data(seed) as (fit, judging):
            self._stage_1(seed, fit, judging)
            for choice in self.recipe.repairs:
                self._repair(seed, choice, fit, judging)

    def _stage_1(self, seed: int, fit: ConceptDataset, judging: ConceptDataset) -> None:
        place, recipe = self.folder / f"seed-{seed}", self.recipe
        run = place / "stage-1"
        said = {"teacher": recipe.teacher, "student": recipe.student, "stage": 1, "seed": seed}
        if not (run / "model" / "config.json").is_file():
            self._start(f"seed {seed}: distilling encoders")
            values = {**said, "data.source": recipe.data}
            chosen = read_recipe(DistilRecipe, "distil-1", recipe.stage_1, values)
            dataset = None if is_scenes(recipe.data) else fit
            with stopwatch(run / SPENT, run):
                distil(chosen, run, (run / "recipe.yaml").is_file(), dataset, stop=self._stop)
        if (place / "stage-1.json").is_file():
            return
        student = self._load(run / "model")
        self._start(f"seed {seed}: diagnosing and judging the student")
        diagnosis = diagnose(
            student,
            judging,
            self.teacher,
            threshold=recipe.threshold,
            phrases=recipe.phrases,
            progress=self._go_on,
        )
        write_diagnosis(diagnosis, place / "diagnosis")
        self._save(f"seed-{seed}/stage-1", self._judged(student, judging, read_spent(run / SPENT)))

    def _repair(self, seed: int, choice: RepairChoice, fit: ConceptDataset, judging: ConceptDataset) -> None:
        place, name = self.folder / f"seed-{seed}", f"seed-{seed}/{choice.name}"
        if (self.folder / f"{name}.json").is_file():
            return
        self._start(f"seed {seed}: {choice.name}")
        path, folder = place / "stage-1" / "model", place / choice.name
        going_on = (folder / "run").is_dir()
        if folder.exists() and not going_on:
            shutil.rmtree(folder)  # seconds of work, cut off in the middle
        options = choice.options(
            teacher=self.recipe.teacher, threshold=self.recipe.threshold, resume=going_on, seed=seed
        )
        fit, data = choice.part_of(fit), self.recipe.data
        case = RepairCase(path, self._load(path), self.teacher, data, fit, folder, options, self._stop)
        spent = write_repaired(case, choice.method)
        write_text(folder / REPAIR, json.dumps({"method": choice.method, "spent": spent}, indent=2) + "\n")
        self._save(name, self._judged(self._load(folder), judging, spent))

    def _judged(
        self, model: Segmenter, judging: ConceptDataset, spent: dict[str, float] | None = None
    ) -> dict[str, Any]:
        images = judge_images(model, judging, self.recipe.threshold, self._go_on)
        return {
            "judgement": summed_up(images).to_dict(),
            "spent": spent or {},
            "model": describe_model(model),
            "images": [image.to_dict() for image in images],
        }

    def _start(self, part: str) -> None:
        self._stop.check()
        self._say(part)

    def _go_on(self, done: int, wanted: int) -> None:
        self._stop.check()

    def _save(self, name: str, values: dict[str, Any]) -> None:
        write_text(self.folder / f"{name}.json", json.dumps(values, indent=2) + "\n")

    def _load(self, name: str | Path) -> Segmenter:
        return load(name, device=self.recipe.device, dtype=self.recipe.dtype)

    @contextmanager
    def _data(self, seed: int) -> Iterator[tuple[ConceptDataset, ConceptDataset]]:
        """Images to fit on, which differ from seed to seed, and those that judge, which do not."""
        recipe = self.recipe
        with (
            fitting_data(recipe.data, recipe.fit_images, 1, seed) as fitting,
            fitting_data(recipe.data, 1, recipe.judge_images, 0) as judging,
        ):
            yield fitting.fit, judging.judge


def describe_model(model: Segmenter) -> dict[str, float | int | str]:
    """Size and compute of one image with one phrase."""
    detector, side = model.detector, model.resolution
    pixels = torch.zeros(1, 3, side, side, device=model.device)
    ids = model.tokenizer([VISUAL]).to(model.device)
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    for parameter in trained:  # the counter follows gradients, and stumbles over those that nothing asks for
        parameter.requires_grad_(False)
    with torch.no_grad(), model.autocast(), FlopCounterMode(display=False) as counter:
        detector(pixels, ids)
    for parameter in trained:
        parameter.requires_grad_(True)
    return {
        "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        "gigaflops": round(counter.get_total_flops() / 1e9, 3),
        "resolution": side,
    }


def _begin(recipe: StudyRecipe, folder: Path, resume: bool) -> None:
    file = folder / RECIPE
    if not file.is_file():
        values = json.loads(json.dumps(dataclasses.asdict(recipe)))
        write_text(file, yaml.safe_dump(values, sort_keys=False))
        return
    if not resume:
        raise TrainingError(f"{folder} already holds a study; go on with --resume or give another --out")
    if study_of(yaml.safe_load(file.read_text(encoding="utf-8"))) != recipe:
        raise TrainingError(f"{folder} was begun with another recipe; resume with the one in {file}")
