"""The study's report: means over seeds, what each repair recovers and costs, tables and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.presence.judgement import COLUMNS, Judgement
from conceptseg.report import GREY, can_draw, label_axes, markdown_table, report_json, save_chart, shown
from conceptseg.study.gains import cgf1_gain, gain_shown
from conceptseg.study.pinned import kept_weights

STUDY, REPORT = "study.json", "report.md"
STAGE_1 = "stage-1"
REPORTED = (-5.89, -11.05)  # teacher and student, EfficientSAM3 issue 17
DRIFT = ("cosine", "relative_error", "mean_shift", "variance_shift", "cka")


@dataclass(frozen=True)
class StudyPart:
    """One model of one seed."""

    name: str  # "teacher", "stage-1", or that of a repair
    judgement: Judgement
    spent: Mapping[str, float]
    model: Mapping[str, Any]
    seed: str = ""
    counts: Sequence[Sequence[int]] = ()  # of cgF1, of every image


def write_study(
    folder: Path, recipe: Mapping[str, Any], parts: Sequence[StudyPart], diagnoses: Sequence[Path]
) -> Path:
    """Write study.json, report.md and the figures of what is done so far.

    Args:
        folder: of the study.
        recipe: plain values.
        parts: all models that were judged; those of one name are its seeds.
        diagnoses: folders of the students after stage 1.

    Returns:
        Path of the report.
    """
    groups: dict[str, list[StudyPart]] = {}
    for part in parts:
        groups.setdefault(part.name, []).append(part)
    drift = _mean_drift(diagnoses)
    summary = {name: _summary(group, groups) for name, group in groups.items()}
    values = {"recipe": dict(recipe), "weights": kept_weights(folder), "summary": summary, "drift": drift}
    write_text(folder / STUDY, report_json(values))
    figures = []
    if can_draw() and len(groups) > 1:
        _draw_cost(groups, folder / "cost.png")
        figures.append("![Quality against what it cost](cost.png)")
    write_text(folder / REPORT, _markdown(recipe, groups, summary, drift, diagnoses, folder, figures))
    return folder / REPORT


def _summary(group: Sequence[StudyPart], groups: Mapping[str, Sequence[StudyPart]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every figure, and what it recovers."""
    values: dict[str, Any] = {"seeds": len(group)}
    for f in fields(Judgement):
        numbers = [getattr(part.judgement, f.name) for part in group]
        values[f.name] = {"mean": _plain(np.mean(numbers)), "std": _plain(np.std(numbers))}
    for name in ("seconds", "cpu_seconds", "images", "pairs", "labels"):
        spent = [part.spent[name] for part in group if name in part.spent]
        if spent:
            values[name] = float(np.mean(spent))
    values["model"] = dict(group[0].model)
    if "teacher" in groups and "stage-1" in groups and group[0].name not in ("teacher", "stage-1"):
        best, least, own = (
            float(np.mean([part.judgement.cgf1 for part in it]))
            for it in (groups["teacher"], groups["stage-1"], group)
        )
        values["recovered"] = _plain((own - least) / (best - least)) if best != least else None
        values["share_of_teacher"] = _plain(own / best) if best else None
    return values


def _markdown(
    recipe: Mapping[str, Any],
    groups: Mapping[str, Sequence[StudyPart]],
    summary: Mapping[str, Any],
    drift: Mapping[str, Mapping[str, float | None]],
    diagnoses: Sequence[Path],
    folder: Path,
    figures: Sequence[str],
) -> str:
    parts = [
        f"# {recipe['name']}",
        f"Teacher {recipe['teacher']} (weights `{kept_weights(folder)}`), student {recipe['student']}, seeds "
        f"{', '.join(str(seed) for seed in recipe['seeds'])}; fitted on {recipe['fit_images']} images of "
        f"{recipe['data']}, judged on {recipe['judge_images']} others; threshold {recipe['threshold']:g}. "
        "Means over seeds, with standard deviations where there are several.",
        "## Repairs",
        markdown_table(["", *(heading for _, heading, _ in COLUMNS)], _rows(groups, summary)),
        "cgF1, pmF1 and shares x 100. Logits are raw, before any calibration.",
        "## Cost",
        markdown_table(
            [
                "",
                "gain in cgF1 x 100, with 95% interval",
                "recovered of the lost cgF1",
                "of the teacher's cgF1",
                "seconds",
                "images",
                "labels",
            ],
            _cost_rows(groups, summary),
        ),
        "A gain is over the student after stage 1, its interval bootstrapped over images and seeds.",
        *figures,
        *_shift(summary),
    ]
    models = {name: summary[name]["model"] for name in ("teacher", "stage-1") if name in summary}
    if models:
        rows = [
            [name, f"{it['parameters']:,}", f"{it['gigaflops']:.2f}", f"{it['resolution']}"]
            for name, it in models.items()
        ]
        parts += ["## Size", markdown_table(["", "parameters", "GFLOP per image and phrase", "pixels"], rows)]
    if drift:
        rows = [[name, *(shown(it[key], ".3f") for key in DRIFT)] for name, it in drift.items()]
        parts += [
            "## Drift after stage 1",
            markdown_table(["component", *(key.replace("_", " ") for key in DRIFT)], rows),
        ]
    for path in diagnoses:
        verdict = json.loads((path / "diagnosis.json").read_text(encoding="utf-8"))["verdict"]
        place = path.relative_to(folder).as_posix()
        parts.append(f"[{place}]({place}/report.md): **{verdict['repair']}**, {verdict['reason']}")
    return "\n\n".join(parts) + "\n"


def _rows(groups: Mapping[str, Sequence[StudyPart]], summary: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, group in groups.items():
        cells = [name]
        for field, _, large in COLUMNS:
            mean, std = (summary[name][field][kind] for kind in ("mean", "std"))
            factor, digits = (100, 1) if large else (1, 3)
            cell = "-" if mean is None else f"{factor * mean:.{digits}f}"
            if mean is not None and len(group) > 1:
                cell += f" ± {factor * std:.{digits}f}"
            cells.append(cell)
        rows.append(cells)
    return rows


def _cost_rows(groups: Mapping[str, Sequence[StudyPart]], summary: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in groups:
        values = summary[name]
        shares = [values.get("recovered"), values.get("share_of_teacher")]
        counts = [values.get(key) for key in ("seconds", "images", "labels")]
        rows.append(
            [
                name,
                _gain(groups, name),
                *(shown(share, ".0%") for share in shares),
                *(shown(count, ",.0f") for count in counts),
            ]
        )
    return rows


def _gain(groups: Mapping[str, Sequence[StudyPart]], name: str) -> str:
    """cgF1 of a repair less that of the students it repaired, with its interval."""
    after, before = ({part.seed: part.counts for part in groups.get(it, ())} for it in (name, STAGE_1))
    return "-" if name == STAGE_1 else gain_shown(cgf1_gain(after, before))


def _shift(summary: Mapping[str, Any]) -> list[str]:
    """The shift of presence on present pairs, beside what users reported of the full model."""
    if not {"teacher", "stage-1"} <= set(summary):
        return []
    ours = [summary[name]["present_mean"]["mean"] for name in ("teacher", "stage-1")]
    if None in ours:
        return []
    return [
        f"Mean presence logit of present pairs: {ours[0]:.2f} (teacher) and {ours[1]:.2f} (student after "
        f"stage 1); reported of the full model, on one obvious object: about {REPORTED[0]} and {REPORTED[1]}."
    ]


def _mean_drift(diagnoses: Sequence[Path]) -> dict[str, dict[str, float | None]]:
    """Component -> figures, mean over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in diagnoses:
        values = json.loads((path / "diagnosis.json").read_text(encoding="utf-8"))
        for name, figures in values["drift"].items():
            found.setdefault(name, []).append(figures)
    return {name: {key: _mean([it[key] for it in each]) for key in DRIFT} for name, each in found.items()}


def _draw_cost(groups: Mapping[str, Sequence[StudyPart]], path: Path) -> None:
    """cgF1 and false detections per absent phrase over the seconds of each repair; lines for both ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    metrics = (("cgf1", "cgF1", 100), ("false_per_absent", "false detections per absent phrase", 1))
    for place, (field, title, factor) in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, 2, place)
        for name, group in groups.items():
            values = [factor * getattr(part.judgement, field) for part in group]
            if name in ("teacher", "stage-1"):
                line = "-" if name == "teacher" else ":"
                axes.axhline(float(np.mean(values)), color=GREY, linestyle=line, label=name)
                continue
            seconds = [max(part.spent.get("seconds", 0.0), 0.1) for part in group]
            axes.scatter(seconds, values, s=30, label=name)
        axes.set_xscale("log")
        label_axes(axes, title, "seconds of repair", "")
    save_chart(figure, path)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _plain(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
