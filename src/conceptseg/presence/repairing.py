"""Repair presence: four methods, each of which writes a new model folder and what it changed.

    repair("runs/student/model", "calibrate", "data/mine", "repaired", teacher="nano", labels="none")

FOLDER/config.json, model.safetensors, tokenizer.json   the repaired model
FOLDER/repair.json, repair.md                           before and after, what it cost
FOLDER/run/, spent.json                                 of finetune and distil: recipe, curves, checkpoints;
                                                        seconds so far

The images that judge are never those that were fitted on. A calibration is written together with the presence
mode "calibrated", so that it is applied wherever the model runs unless a caller asks for another mode.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.checkpoints.config_file import write_config
from conceptseg.checkpoints.folder import FILES, save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.choices import Matching, RepairLabels, RepairMethod, check_choice
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.run import distil
from conceptseg.errors import OptionError
from conceptseg.evaluation.calibration import fit_to_labels, fit_to_teacher
from conceptseg.hub import find_model
from conceptseg.loading import load
from conceptseg.models.config import ModelConfig, PresenceCalibration
from conceptseg.models.cpu.rounding import is_rounded
from conceptseg.presence.finetuning import PresenceJob, PresenceRecipe
from conceptseg.presence.judgement import Judgement, judge, judgement_table
from conceptseg.presence.labelled_data import FitAndJudge, fitting_data, is_scenes
from conceptseg.presence.observe import observe
from conceptseg.presence.stopwatch import stopwatch
from conceptseg.presence.unlabelled_data import Agreement, agreement, agreement_table, unlabelled_data
from conceptseg.presence_reading import PresenceReading
from conceptseg.segmenter import Segmenter
from conceptseg.train.job import run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder

REPAIR, REPORT, RUN, SPENT = "repair.json", "repair.md", "run", "spent.json"
# Two numbers are fitted: of many images with many phrases each, some present and as many absent ones do.
ENOUGH_PAIRS = 1000


@dataclass(frozen=True)
class RepairOptions:
    """What a repair may use.

    Attributes:
        teacher: name or path; needed by distil, and by calibrate without labels.
        labels: "none": whether a phrase is there is not looked at when fitting; distil then ends with
            stage 2.
        offset_only: of a calibration, keep the scale at 1.
        matching: how a calibration without labels matches the teacher, see `presence.calibration`.
        phrases: of a calibration without labels: file with a phrase per line; the data is then a folder of
            images of which nothing is known.
        fit_images: images that are fitted on, at most; None for all (100 of scenes).
        judge_images: images that judge, at most; likewise.
        threshold: working threshold.
        overrides: entries of the recipes to change, `key=value`; those of one stage as `2.steps=100`.
        resume: go on with an interrupted finetune or distil in the same folder.
        seed: of scenes, and of training.
        device: as for `load`, of what is asked; training chooses for itself.
        dtype: likewise.
    """

    teacher: str | None = None
    labels: RepairLabels = "all"
    offset_only: bool = False
    matching: Matching = "ranks"
    phrases: str | None = None
    fit_images: int | None = None
    judge_images: int | None = None
    threshold: float = 0.5
    overrides: Sequence[str] = ()
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, RepairLabels)
        check_choice("matching", self.matching, Matching)


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        folder: of the repaired model.
        method: of the four.
        calibration: of the repaired model.
        presence_mode: of the repaired model.
        judgements: "teacher" (where one was given), "before" and "after"; empty without labelled data.
        agreements: "before" and "after", of data without labels; else empty.
        spent: `seconds` and `cpu_seconds` (of this process), with those of attempts that were stopped;
            `images`, `pairs` and `labels` that were fitted on: labels are pairs whose presence was looked at.
    """

    folder: Path
    method: str
    calibration: PresenceCalibration
    presence_mode: str
    judgements: dict[str, Judgement]
    spent: dict[str, float]
    agreements: dict[str, Agreement] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "presence_mode": self.presence_mode,
            "presence_calibration": dataclasses.asdict(self.calibration),
            "judgements": {name: it.to_dict() for name, it in self.judgements.items()},
            "agreements": {name: it.to_dict() for name, it in self.agreements.items()},
            "spent": self.spent,
        }


@dataclass(frozen=True)
class RepairCase:
    """What a repair works on.

    Attributes:
        path: of the model to repair.
        model: the same, loaded.
        teacher: the one that the options name, loaded.
        data: what `fit` is a part of.
        fit: images to fit on.
        folder: of the repaired model.
        options: see `RepairOptions`.
    """

    path: Path
    model: Segmenter
    teacher: Segmenter | None
    data: str
    fit: ConceptDataset
    folder: Path
    options: RepairOptions


def repair(
    model: str | os.PathLike[str],
    method: RepairMethod,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: RepairOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> Repair:
    """Write a repaired model, and judge it before and after on images that it was not fitted on.

    Args:
        model: name or path of the model to repair; it stays as it is.
        method: "ignore", "calibrate", "finetune" or "distil" (also spelt "distill").
        data: labelled dataset, or "scenes".
        out: folder of the repaired model.
        options: see `RepairOptions`.
        progress: told what is being done.

    Raises:
        OptionError: unknown method, a teacher is missing, or the folder is in use.
        DataError: the data cannot be used, or nothing can be fitted on it.
        ModelNotFoundError, CheckpointError: a model cannot be loaded.
    """
    options = options or RepairOptions()
    folder = Path(out)
    check_repair(method, options)
    _check_folder(folder, options.resume)
    chosen = _method(method)
    say = progress or (lambda what: None)
    say("loading")
    before = load(model, device=options.device, dtype=options.dtype)
    teacher = (
        None if options.teacher is None else load(options.teacher, device=options.device, dtype=options.dtype)
    )
    with _parts(data, options) as parts:
        judgements: dict[str, Judgement] = {}
        agreements: dict[str, Agreement] = {}

        def look(name: str, segmenter: Segmenter) -> None:
            if options.phrases is None:
                judgements[name] = judge(segmenter, parts.judge, options.threshold)
            elif teacher is not None and segmenter is not teacher:
                agreements[name] = agreement(segmenter, teacher, parts.judge)

        say("judging the model as it is")
        if teacher is not None:
            look("teacher", teacher)
        look("before", before)
        say(f"repairing: {chosen}")
        case = RepairCase(Path(model), before, teacher, str(data), parts.fit, folder, options)
        spent = write_repaired(case, chosen)
        say("judging the repaired model")
        after = load(folder, device=options.device, dtype=options.dtype)
        look("after", after)
        calibration, mode = after.config.presence_calibration, after.config.presence_mode
        found = Repair(folder, chosen, calibration, mode, judgements, spent, agreements)
        _write(found, parts.judge)
    return found


def _parts(
    data: str | os.PathLike[str], options: RepairOptions
) -> contextlib.AbstractContextManager[FitAndJudge]:
    if options.phrases is not None:
        return contextlib.nullcontext(
            unlabelled_data(data, options.phrases, options.fit_images, options.judge_images)
        )
    return fitting_data(data, options.fit_images, options.judge_images, options.seed)


def write_repaired(case: RepairCase, method: str) -> dict[str, float]:
    """Repair without judging.

    Args:
        case: what it works on.
        method: in either spelling, checked before (`check_repair`).

    Returns:
        What it cost, as `Repair.spent`.
    """
    with stopwatch(case.folder / SPENT, case.folder / RUN) as times:
        used = _METHODS[_method(method)](case)
    return {**times, **used}


def check_repair(method: str, options: RepairOptions) -> None:
    """Refuse what cannot be done, long before it is begun.

    Raises:
        OptionError: unknown method, or a teacher or labels are missing.
        ConfigError: an override that the method's recipes do not have.
    """
    check_choice("method", method, RepairMethod)
    chosen = _method(method)
    if options.teacher is None and (
        chosen == "distil" or (chosen == "calibrate" and options.labels == "none")
    ):
        why = "distilling" if chosen == "distil" else "calibrating without labels"
        raise OptionError(f"{why} needs a teacher (--teacher)")
    if chosen == "finetune" and options.labels == "none":
        raise OptionError("finetune learns from labels; without any use --method calibrate or distil")
    if options.phrases is not None and (chosen, options.labels) != ("calibrate", "none"):
        raise OptionError("phrases (--phrases) are for images without labels: calibrate with labels none")
    if chosen == "finetune":
        _finetune_recipe("", "", 0, options)
    if chosen == "distil":
        _distil_recipes("", "", Path(), options)


def _check_folder(folder: Path, resume: bool) -> None:
    run = folder / RUN
    begun = run.is_dir() and any(run.iterdir())
    if not resume and (begun or any((folder / name).exists() for name in FILES)):
        raise OptionError(f"{folder} already holds a model or a run; give another --out, or --resume")


def _ignore(case: RepairCase) -> dict[str, float]:
    _write_with(case, dataclasses.replace(case.model.config, presence_mode="ignore"), "ignore")
    return {"images": 0, "pairs": 0, "labels": 0}


def _calibrate(case: RepairCase) -> dict[str, float]:
    options = case.options
    learns_from = case.teacher if options.labels == "none" else None
    seen = observe(
        case.model,
        case.fit,
        learns_from,
        count=len(case.fit),
        threshold=options.threshold,
        phrases=math.ceil(ENOUGH_PAIRS / 2 / len(case.fit)),
        compare=False,
    )
    logits = [answer.presence_logit for answer in seen.student]
    if learns_from is None:
        calibration = fit_to_labels(logits, [it.present for it in seen.student], options.offset_only)
        labels = len(logits)
    else:
        theirs = torch.tensor([answer.presence_logit for answer in seen.teacher])
        # As the teacher itself reads its logits; one that ignores presence is matched in its raw presence.
        presence = PresenceReading.of(learns_from.config).probability(theirs).tolist()
        calibration = fit_to_teacher(logits, presence, options.offset_only, options.matching)
        labels = 0
    config = dataclasses.replace(
        case.model.config, presence_calibration=calibration, presence_mode="calibrated"
    )
    how = "from labels" if learns_from is None else f"without labels, {options.matching}"
    _write_with(case, config, f"calibrate, {how}{', offset only' * options.offset_only}")
    return {"images": len(case.fit), "pairs": len(logits), "labels": labels}


def _finetune(case: RepairCase) -> dict[str, float]:
    options = case.options
    recipe = _finetune_recipe(str(case.path), case.data, len(case.fit), options)
    job = PresenceJob(recipe, RunFolder(case.folder / RUN), case.fit)
    run_job(job, options.resume and job.folder.recipe_path.is_file())
    _copy_model(job.folder, case.folder)
    pairs = min(recipe.steps * recipe.images * recipe.questions, sum(_pairs(case.fit)))
    return {"images": len(case.fit), "pairs": pairs, "labels": pairs}


def _distil(case: RepairCase) -> dict[str, float]:
    drawn = is_scenes(case.data)
    recipes = _distil_recipes(str(case.path), case.data, case.folder, case.options)
    for recipe in recipes:
        run = _stage_folder(case.folder, recipe.stage)
        if not (run / "model").is_dir():
            resume = case.options.resume and (run / "recipe.yaml").is_file()
            distil(recipe, run, resume, dataset=None if drawn else case.fit)
    _copy_model(RunFolder(run), case.folder)
    if drawn:  # every step has images of its own; only stage 3 looks at their labels
        images = {it.stage: it.steps * it.data.images for it in recipes}
        pairs = {it.stage: images[it.stage] * it.data.questions for it in recipes}
        return {"images": sum(images.values()), "pairs": sum(pairs.values()), "labels": pairs.get(3, 0)}
    known = sum(_pairs(case.fit))
    return {"images": len(case.fit), "pairs": known, "labels": known if len(recipes) > 1 else 0}


def _finetune_recipe(model: str, data: str, images: int, options: RepairOptions) -> PresenceRecipe:
    said = {"model": model, "data": data, "images_used": images, "seed": options.seed}
    return read_recipe(PresenceRecipe, "presence", _overrides(options, None), said)


def _distil_recipes(model: str, data: str, folder: Path, options: RepairOptions) -> list[DistilRecipe]:
    """Of stage 2 and, with labels, of stage 3, which goes on with the model of stage 2."""
    recipes = []
    for stage in (2,) if options.labels == "none" else (2, 3):
        said: dict[str, Any] = {"teacher": options.teacher, "student": model, "stage": stage}
        said |= {"data.source": data, "seed": options.seed}
        recipes.append(read_recipe(DistilRecipe, f"distil-{stage}", _overrides(options, stage), said))
        model = str(_stage_folder(folder, stage) / "model")
    return recipes


def _copy_model(run: RunFolder, folder: Path) -> None:
    for name in FILES:
        with replacing(folder / name) as draft:
            shutil.copyfile(run.model_path / name, draft)


def _stage_folder(folder: Path, stage: int) -> Path:
    return folder / RUN / f"stage-{stage}"


def _method(name: str) -> str:
    """Of the two spellings the one that is used inside."""
    return "distil" if name == "distill" else name


_METHODS: dict[str, Callable[[RepairCase], dict[str, float]]] = {
    "ignore": _ignore,
    "calibrate": _calibrate,
    "finetune": _finetune,
    "distil": _distil,
}


def _overrides(options: RepairOptions, stage: int | None) -> list[str]:
    """What the caller changes: for this stage, or for all."""
    lines: list[str] = []
    for override in options.overrides:
        first, dot, rest = override.partition(".")
        if not (dot and first.isdecimal()):
            lines.append(override)
        elif stage is not None and first == str(stage):
            lines.append(rest)
    return lines


def _pairs(dataset: ConceptDataset) -> list[int]:
    """Labelled pairs of each image."""
    return [len(image.phrases) + len(image.absent_phrases) for image in dataset]


def _write_with(case: RepairCase, config: ModelConfig, how: str) -> None:
    """The same weights under another config; of a folder of ours, the very files."""
    config = _with_provenance(config, how)
    path, folder = case.path, case.folder
    if path.is_dir() and all((path / name).is_file() for name in FILES):
        for name in FILES[1:]:
            with replacing(folder / name) as draft:
                shutil.copyfile(path / name, draft)
        write_config(folder, config)
    else:
        detector = case.model.detector
        if is_rounded(detector):  # the case's model is only asked; files get what its own file holds
            detector, _, _ = load_checkpoint(find_model(path))
        save_model_folder(folder, detector, case.model.tokenizer, config)


def _with_provenance(config: ModelConfig, how: str) -> ModelConfig:
    return dataclasses.replace(config, provenance={**config.provenance, "presence_repair": how})


def _write(found: Repair, judged: ConceptDataset) -> None:
    write_text(found.folder / REPAIR, json.dumps(found.to_dict(), indent=2) + "\n")
    spent = found.spent
    parts = [
        f"# Presence repair: {found.method}",
        f"Presence is read as {found.presence_mode}, scale {found.calibration.scale:.4g}, offset "
        f"{found.calibration.offset:.4g}. {spent['seconds']:g} seconds ({spent['cpu_seconds']:g} of "
        f"processor time); {spent['images']:,g} images, "
        f"{spent['pairs']:,g} (image, phrase) pairs, of which the labels of {spent['labels']:,g} were read.",
    ]
    if found.agreements:
        parts += [
            agreement_table(found.agreements),
            f"Compared with the teacher on {len(judged):,} other images of {judged.name}; a pair passes when "
            "its presence is above one half. Nothing is known about these images, so this says whether the "
            "teacher's answers are given, not whether they are right: `conceptseg presence diagnose` on "
            "labelled images does.",
        ]
    else:
        parts += [
            judgement_table(found.judgements),
            f"Judged on {len(judged):,} other images of {judged.name}, {judged.split}. cgF1, pmF1 and shares "
            "x 100.",
        ]
    write_text(found.folder / REPORT, "\n\n".join(parts) + "\n")
