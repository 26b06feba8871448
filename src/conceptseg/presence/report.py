"""A diagnosis on disk: diagnosis.json for programs, report.md with figures for people.

FOLDER/diagnosis.json
FOLDER/report.md
FOLDER/presence.png, drift.png
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import conceptseg
from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.presence.diagnosis import Diagnosis
from conceptseg.presence.figures import BINS, draw_drift, draw_presence_logits
from conceptseg.presence.pair_outcomes import PairAnswer, PresenceFigures
from conceptseg.report import NO_FIGURES, can_draw, markdown_table, report_json, shown

DIAGNOSIS, REPORT = "diagnosis.json", "report.md"
ADVICE = {
    "none": "Nothing to repair.",
    "fault": "Mend this first, and diagnose again; no repair of presence can.",
    "calibrate": "Fit a calibration to the teacher: `conceptseg presence repair --method calibrate "
    "--labels none --teacher TEACHER`. Students gained more by it than by one from labels.",
    "finetune": "Train the presence token and head on a little annotated data, present and absent phrases: "
    "`conceptseg presence repair --method finetune`.",
    "distil": "Distil through the fusion: `conceptseg presence repair --method distil --teacher TEACHER`. "
    "Calibration or fine-tuning of presence alone cannot bring back what the features lost.",
    "undecided": "Give data in which some phrases are present and others absent.",
}
# (field, words, whether it is a share of 1 that people read as a percentage)
ROWS = (
    ("present_mean", "presence logit, present pairs: mean", False),
    ("present_std", "presence logit, present pairs: standard deviation", False),
    ("absent_mean", "presence logit, absent pairs: mean", False),
    ("absent_std", "presence logit, absent pairs: standard deviation", False),
    ("auroc", "presence AUROC (0.5 is chance)", False),
    ("class_auroc", "AUROC of the best class score", False),
    ("ece", "expected calibration error of presence", False),
    ("found_by_class", "objects found by class score alone", True),
    ("found", "objects found", True),
    ("lost_to_presence", "true detections lost to presence alone", True),
    ("false_per_absent", "false detections per absent phrase", False),
    ("false_per_absent_ignoring", "the same if presence were ignored", False),
    ("absent_with_detections", "absent phrases with any detection", True),
    ("absent_with_detections_ignoring", "the same if presence were ignored", True),
)


def write_diagnosis(diagnosis: Diagnosis, folder: str | os.PathLike[str]) -> Path:
    """Write `diagnosis.json`, `report.md` and the figures; those of an earlier diagnosis there are replaced.

    Returns:
        Path of the report.
    """
    folder = Path(folder)
    write_text(folder / DIAGNOSIS, diagnosis_json(diagnosis))
    figures = []
    if can_draw() and diagnosis.student_answers:
        models = {f"model: {diagnosis.setup['model']['name']}": diagnosis.student_answers}
        if diagnosis.teacher_answers:
            name = f"teacher: {diagnosis.setup['teacher']['name']}"
            models = {name: diagnosis.teacher_answers, **models}
        draw_presence_logits(models, folder / "presence.png")
        figures.append(("Presence logits", "presence.png"))
        if diagnosis.drift:
            draw_drift(diagnosis.drift, folder / "drift.png")
            figures.append(("Drift", "drift.png"))
    write_text(folder / REPORT, _markdown(diagnosis, figures))
    return folder / REPORT


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """Every number; what is undefined is null."""
    theirs = diagnosis.teacher
    answers = [*diagnosis.student_answers, *diagnosis.teacher_answers]
    values = {
        "verdict": asdict(diagnosis.verdict),
        "faults": [asdict(fault) for fault in diagnosis.faults],
        "rule": asdict(diagnosis.rule),
        "model": diagnosis.student.to_dict(),
        "teacher": None if theirs is None else theirs.to_dict(),
        "drift": {name: drift.to_dict() for name, drift in diagnosis.drift.items()},
        "histograms": _histograms(diagnosis, [answer.presence_logit for answer in answers]),
        "notes": diagnosis.notes,
        "setup": {**diagnosis.setup, "conceptseg": conceptseg.__version__},
    }
    return report_json(values)


def figure_rows(figures: Sequence[PresenceFigures]) -> list[list[str]]:
    """A table of figures, one column each; the first column says what it is."""
    counts = [
        ["present pairs", *(f"{it.present_pairs:,}" for it in figures)],
        ["absent pairs", *(f"{it.absent_pairs:,}" for it in figures)],
    ]
    return counts + [
        [words, *(shown(getattr(it, name), ".1%" if percentage else ".3f") for it in figures)]
        for name, words, percentage in ROWS
    ]


def drift_rows(diagnosis: Diagnosis) -> list[list[str]]:
    """Component, then its figures."""
    return [
        [
            name,
            *(
                shown(value, ".3f")
                for value in (it.cosine, it.relative_error, it.mean_shift, it.variance_shift, it.cka)
            ),
            f"{it.tokens:,}",
        ]
        for name, it in diagnosis.drift.items()
    ]


DRIFT_HEADINGS = ["component", "cosine", "relative error", "mean shift", "variance shift", "CKA", "tokens"]


def _markdown(diagnosis: Diagnosis, figures: list[tuple[str, str]]) -> str:
    setup, verdict = diagnosis.setup, diagnosis.verdict
    columns = [diagnosis.student] if diagnosis.teacher is None else [diagnosis.teacher, diagnosis.student]
    names = ["model"] if diagnosis.teacher is None else ["teacher", "model"]
    calibration = setup["model"]["presence_calibration"]
    parts = [
        f"# Presence of {setup['model']['name']} on {setup['dataset']}, {setup['split']}",
        f"**Verdict: {verdict.repair}.** {verdict.reason[0].upper()}{verdict.reason[1:]}",
        ADVICE[verdict.repair],
        *(f"**Fault, {fault.kind}:** {fault.finding}. {fault.remedy}" for fault in diagnosis.faults),
        f"{setup['images']:,} images, threshold {setup['threshold']:g}; the model's config says presence "
        f"{setup['model']['presence_mode']} (scale {calibration['scale']:g}, "
        f"offset {calibration['offset']:g}), {setup['model']['resolution']} px"
        + ("." if diagnosis.teacher is None else f"; the teacher is {setup['teacher']['name']}."),
        *(f"**Note:** {note}." for note in diagnosis.notes),
        "## Presence",
        markdown_table(["", *names], figure_rows(columns)),
        "Presence logits are raw, before any calibration. A true detection overlaps an object of its own "
        "with a box IoU of at least 0.5; it is lost to presence alone when its class score "
        "passes the threshold and its score does not.",
    ]
    for title, file in figures:
        parts.append(f"![{title}]({file})")
    if not figures:
        parts.append(NO_FIGURES)
    if diagnosis.drift:
        parts += [
            "## Drift from the teacher",
            markdown_table(DRIFT_HEADINGS, drift_rows(diagnosis)),
            "Token by token at the same places. Relative error is |student - teacher| / |teacher|; mean "
            "shift is in standard deviations of the teacher's channels; variance shift is the mean |log2| "
            "of the ratio of variances, so 1 is a factor of two. A dash: the channels do not correspond.",
        ]
    parts += [
        "## Rule",
        markdown_table(["threshold", "value"], [[k, f"{v:g}"] for k, v in asdict(diagnosis.rule).items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _histograms(diagnosis: Diagnosis, logits: list[float]) -> dict[str, Any]:
    """Counts of raw presence logits in common bins."""
    if not logits:
        return {}
    edges = np.linspace(min(logits), max(max(logits), min(logits) + 1e-6), BINS + 1)

    def counts(answers: Sequence[PairAnswer], present: bool) -> list[int]:
        chosen = [answer.presence_logit for answer in answers if answer.present == present]
        return [int(count) for count in np.histogram(chosen, edges)[0]]

    models = {"model": diagnosis.student_answers, "teacher": diagnosis.teacher_answers}
    return {
        "edges": edges.tolist(),
        **{
            name: {"present": counts(answers, True), "absent": counts(answers, False)}
            for name, answers in models.items()
            if answers
        },
    }
