"""Diagnose a model's presence: does it say "no" to what is there, where does that come from, what repairs it?

diagnosis = diagnose("runs/student/model", "data/mine", teacher="nano")
diagnosis.verdict.repair, diagnosis.student.auroc, diagnosis.drift["fusion memory"].cosine
write_diagnosis(diagnosis, "diagnosis")  # diagnosis.json, report.md, presence.png, drift.png
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.errors import DataError
from conceptseg.loading import load
from conceptseg.presence.faults import Fault, find_faults
from conceptseg.presence.features import FeatureDrift
from conceptseg.presence.labelled_data import judging_data
from conceptseg.presence.observe import observe
from conceptseg.presence.pair_outcomes import PairAnswer, PresenceFigures, presence_figures
from conceptseg.presence.verdict import Verdict, VerdictRule, decide
from conceptseg.prompts import check_phrases
from conceptseg.segmenter import Segmenter


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `write_diagnosis` writes it down.

    Attributes:
        verdict: the repair that fits, and why.
        faults: in how the model is read or run, which look like a collapse.
        student: figures of the model.
        teacher: those of its teacher on the same pairs; None without one.
        drift: component -> distance from the teacher, in the order of the network; empty without one.
        notes: what a reader must know about the comparison.
        setup: models, data and options.
        rule: the thresholds behind the verdict.
        student_answers: every pair.
        teacher_answers: likewise; empty without a teacher.
    """

    verdict: Verdict
    faults: list[Fault]
    student: PresenceFigures
    teacher: PresenceFigures | None
    drift: dict[str, FeatureDrift]
    notes: list[str]
    setup: dict[str, Any]
    rule: VerdictRule
    student_answers: list[PairAnswer] = field(repr=False, default_factory=list)
    teacher_answers: list[PairAnswer] = field(repr=False, default_factory=list)


def diagnose(
    model: str | os.PathLike[str] | Segmenter,
    data: str | os.PathLike[str] | ConceptDataset,
    teacher: str | os.PathLike[str] | Segmenter | None = None,
    *,
    split: str | None = None,
    threshold: float = 0.5,
    limit: int | None = None,
    absent: str | Sequence[str] = (),
    phrases: int | None = None,
    rule: VerdictRule | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Compare a model with its teacher, or look at it alone, on present and absent phrases.

    Args:
        model: the model that is judged: a name, path, or loaded segmenter.
        data: a labelled dataset, or "scenes".
        teacher: the model it should be like; None to judge it alone.
        split: of the data; None for the held-out one, or the only one.
        threshold: the working threshold; scores above it are detections.
        limit: take the first so many images only.
        absent: phrases to ask of every image that does not show them, beside those the data names or samples.
            The caller vouches for their absence.
        phrases: of each image so many present and as many absent ones at most; None for all.
        rule: thresholds of the verdict; None for the defaults.
        seed: of the scenes.
        device: as for `load`.
        dtype: as for `load`.
        progress: called with the number of images that are done and the number wanted.

    Raises:
        ModelNotFoundError, CheckpointError: a model cannot be loaded.
        DataError: the data cannot be read, or is empty.
        OptionError: an option has an impossible value.
    """
    rule = rule or VerdictRule()
    extra = check_phrases(absent) if absent else []
    student = model if isinstance(model, Segmenter) else load(model, device=device, dtype=dtype)
    if teacher is not None and not isinstance(teacher, Segmenter):
        teacher = load(teacher, device=device, dtype=dtype)
    if isinstance(data, ConceptDataset):
        count = len(data) if limit is None else min(limit, len(data))
        return _diagnose(student, data, teacher, count, threshold, extra, phrases, rule, progress)
    with judging_data(data, split, limit, seed) as dataset:
        count = len(dataset)
        return _diagnose(student, dataset, teacher, count, threshold, extra, phrases, rule, progress)


def _diagnose(
    student: Segmenter,
    dataset: ConceptDataset,
    teacher: Segmenter | None,
    count: int,
    threshold: float,
    absent: list[str],
    phrases: int | None,
    rule: VerdictRule,
    progress: Callable[[int, int], None] | None,
) -> Diagnosis:
    if not count:
        raise DataError(f"{dataset.name}: the split {dataset.split} has no image")
    found = observe(
        student,
        dataset,
        teacher,
        count=count,
        threshold=threshold,
        absent=absent,
        phrases=phrases,
        progress=progress,
    )
    ours = presence_figures(found.student)
    theirs = presence_figures(found.teacher) if teacher is not None else None
    drift = found.drift.result()
    asked = list(dict.fromkeys(answer.phrase for answer in found.student))
    faults = find_faults(student, teacher, asked) if asked else []
    return Diagnosis(
        verdict=decide(ours, theirs, drift, rule, faults),
        faults=faults,
        student=ours,
        teacher=theirs,
        drift=drift,
        notes=[*_notes(ours), *found.drift.notes],
        setup={
            "model": _described(student),
            "teacher": None if teacher is None else _described(teacher),
            "dataset": dataset.name,
            "split": dataset.split,
            "images": count,
            "threshold": threshold,
            "absent": absent,
            "phrases": phrases,
        },
        rule=rule,
        student_answers=found.student,
        teacher_answers=found.teacher,
    )


def _described(model: Segmenter) -> dict[str, Any]:
    calibration = model.config.presence_calibration
    return {
        "name": str(model.config.provenance.get("name", "model")),
        "fingerprint": model.fingerprint,
        "resolution": model.resolution,
        "dtype": str(model.dtype).removeprefix("torch."),
        "presence_mode": model.config.presence_mode,
        "presence_calibration": {"scale": calibration.scale, "offset": calibration.offset},
    }


def _notes(figures: PresenceFigures) -> list[str]:
    notes = []
    if figures.absent_pairs < figures.present_pairs / 2:
        notes.append(
            f"only {figures.absent_pairs:,} absent pairs beside {figures.present_pairs:,} present ones: a "
            "model that says yes to everything would look good here; name more absent phrases (--absent)"
        )
    if not figures.objects:
        notes.append("no object is annotated, so nothing can be said about detections")
    return notes
