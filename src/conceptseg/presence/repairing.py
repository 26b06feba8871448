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
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.checkpoints.folder import FILES
from conceptseg.choices import RepairMethod, check_choice
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.errors import OptionError
from conceptseg.loading import load
from conceptseg.models.config import PresenceCalibration
from conceptseg.presence.judgement import Judgement, judge, judgement_table
from conceptseg.presence.labelled_data import FitAndJudge, fitting_data
from conceptseg.presence.repairs import METHODS
from conceptseg.presence.repairs.case import RUN, RepairCase, RepairOptions
from conceptseg.presence.stopwatch import stopwatch
from conceptseg.presence.unlabelled_data import Agreement, agreement, agreement_table, unlabelled_data
from conceptseg.segmenter import Segmenter

REPAIR, REPORT, SPENT = "repair.json", "repair.md", "spent.json"


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
        MissingDependencyError: the method trains, and a package of the extra `train` is not installed.
        DataError: the data cannot be used, or nothing can be fitted on it.
        ModelNotFoundError, CheckpointError: a model cannot be loaded.
    """
    options = options or RepairOptions()
    folder = Path(out)
    check_repair(method, options)
    _check_folder(folder, options.resume)
    chosen = "distil" if method == "distill" else method
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
        used = METHODS[method].run(case)
    return {**times, **used}


def check_repair(method: str, options: RepairOptions) -> None:
    """Refuse what cannot be done, long before it is begun.

    Raises:
        OptionError: unknown method, or a teacher or labels are missing.
        ConfigError: an override that the method's recipes do not have.
        MissingDependencyError: the method trains, and a package of the extra `train` is not installed.
    """
    check_choice("method", method, RepairMethod)
    METHODS[method].check(options)
    if options.phrases is not None and (method, options.labels) != ("calibrate", "none"):
        raise OptionError("phrases (--phrases) are for images without labels: calibrate with labels none")


def _check_folder(folder: Path, resume: bool) -> None:
    run = folder / RUN
    begun = run.is_dir() and any(run.iterdir())
    if not resume and (begun or any((folder / name).exists() for name in FILES)):
        raise OptionError(f"{folder} already holds a model or a run; give another --out, or --resume")


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
