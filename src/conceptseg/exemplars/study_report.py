"""A study on disk: study.json for programs, study.md with figures for people, of the cells that are measured.

Every figure is the mean over seeds with its standard deviation; costs stand beside what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.exemplars.few_shot import CHANGES, SETTINGS
from conceptseg.exemplars.smoothness import LOOKS, steps_to
from conceptseg.exemplars.study_folder import REFERENCE, STUDY, measured_cells
from conceptseg.exemplars.study_recipe import StudyRecipe
from conceptseg.report import can_draw, markdown_table, report_json, save_chart, shown
from conceptseg.study.gains import cgf1_gain, gain_shown
from conceptseg.study.pinned import kept_weights

Measured: TypeAlias = dict[str, Any]
FIGURES = "study.png"
SPLITS = ("held_out", "unseen")
# What is shown of a cell: (heading, place in measured.json, factor, digits).
QUALITY: tuple[tuple[str, tuple[str, ...], float, int], ...] = (
    *((name, ("settings", "held_out", name, "cgf1"), 100.0, 1) for name in SETTINGS),
    ("one box, unseen", ("settings", "unseen", "one box", "cgf1"), 100.0, 1),
    ("IL-MCC", ("settings", "held_out", "one box", "il_mcc"), 1.0, 2),
    ("F1 at 0.5", ("settings", "held_out", "one box", "f1_50"), 100.0, 1),
    ("steps to target", ("steps_to_target",), 1.0, 0),
    ("roughness", ("roughness",), 1.0, 4),
)
GAP: tuple[tuple[str, tuple[str, ...], float, int], ...] = (
    ("own cosine", ("gap", "agreement", "centred", "cosine_own"), 1.0, 3),
    ("own first", ("gap", "agreement", "centred", "recall_1"), 1.0, 2),
    ("own first, linear map", ("gap", "agreement", "linear", "recall_1"), 1.0, 2),
    ("concept AUROC, linear map", ("gap", "agreement", "linear", "concept_auroc"), 1.0, 3),
    ("half size", ("gap", "scale", "0.5x", "cosine"), 1.0, 2),
    ("twice", ("gap", "scale", "2x", "cosine"), 1.0, 2),
    ("background", ("gap", "context", "background", "cosine"), 1.0, 2),
    ("covered", ("gap", "context", "covered", "cosine"), 1.0, 2),
    ("gradient cosine", ("gap", "conflict", "cosine"), 1.0, 2),
)
ROBUSTNESS = tuple((name, ("robustness", name, "f1_50"), 100.0, 1) for name in CHANGES)
COSTS: tuple[tuple[str, tuple[str, ...], float, int], ...] = (
    ("trained weights, millions", ("training", "parameters"), 1e-6, 2),
    ("step, s", ("training", "step_seconds"), 1.0, 3),
    ("encoder alone, ms", ("answering", "encoder_seconds"), 1e3, 1),
    ("answer, ms", ("answering", "answer_seconds"), 1e3, 1),
    ("activations, MB", ("training", "activation_mb"), 1.0, 1),
    ("gradients, MB", ("training", "gradient_mb"), 1.0, 2),
    ("whole training, CPU s", ("train_cpu_seconds",), 1.0, 0),
)


def write_study_report(recipe: StudyRecipe, folder: Path) -> Path:
    """Write the report of all cells that are measured.

    Returns:
        Path of study.md.
    """
    seeds = {cell.name: cell.seed for cell in recipe.cells()}
    cells = {
        name: cell | {"steps_to_target": steps_to(cell["box_f1"], recipe.target_f1), "seed": seeds[name]}
        for name, cell in measured_cells(recipe, folder).items()
    }
    path = folder / REFERENCE  # another process may still be measuring it
    reference = json.loads(path.read_text()) if path.is_file() else {}
    groups = _groups(recipe, cells)
    weights = kept_weights(folder)
    whole = {
        "weights": weights,
        "cells": {name: {k: v for k, v in cell.items() if k != "box_f1"} for name, cell in cells.items()},
        "reference": reference,
        "expectations": _expectations(groups),
    }
    write_text(folder / STUDY, report_json(whole))
    drawn = can_draw() and bool(groups)
    if drawn:
        _draw(groups, folder / FIGURES)
    write_text(folder / "study.md", _markdown(recipe, weights, groups, reference, len(cells), drawn))
    return folder / "study.md"


def _groups(recipe: StudyRecipe, cells: dict[str, Measured]) -> dict[tuple[str, str], list[Measured]]:
    """(encoder, losses) -> what is measured of its seeds."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for cell in recipe.cells():
        if cell.name in cells:
            groups.setdefault((cell.encoder_name, cell.losses), []).append(cells[cell.name])
    return dict(sorted(groups.items(), key=lambda it: _order(recipe, it[0])))


def _order(recipe: StudyRecipe, key: tuple[str, str]) -> tuple[int, int]:
    names = list(dict.fromkeys(cell.encoder_name for cell in recipe.cells()))
    return names.index(key[0]), list(recipe.losses).index(key[1])  # type: ignore[arg-type]


def _markdown(
    recipe: StudyRecipe,
    weights: str | None,
    groups: dict[tuple[str, str], list[Measured]],
    reference: Measured,
    done: int,
    drawn: bool,
) -> str:
    align, pool = recipe.align, recipe.align.pool
    total = len(list(recipe.cells()))
    lines = [
        "# Exemplar encoders and alignment losses, side by side",
        "",
        f"{done} of {total} runs: {len(recipe.encoders)} encoders x {len(recipe.losses)} choices of losses x "
        f"{len(recipe.seeds)} seeds. Each starts a fresh encoder in `{align.model}` (weights `{weights}`), "
        f"trains {', '.join(align.trainable)} alone for {align.steps} steps of {2 * pool.pairs} pictures and "
        f"{2 * pool.pairs * pool.questions_per_image} prompts, on {pool.scenes} scenes at "
        f"{pool.resolution} px whose features are kept. Figures are means over seeds, plus or minus their "
        "standard deviation. *As loaded* is the model with its own, fully trained encoder.",
        "",
    ]
    parts = (
        (f"Quality: mask cgF1 x 100 on {recipe.scenes} held-out scenes", QUALITY),
        ("Gap, means taken off", GAP),
        (f"Robustness: F1 at IoU 0.5 x 100, one box, {recipe.robustness_scenes} scenes", ROBUSTNESS),
        ("Cost", COSTS),
    )
    for title, columns in parts:
        headings = ["encoder", "losses", *(column[0] for column in columns)]
        measured = {("*as loaded*", ""): [reference], **groups}
        rows = [
            [encoder, losses, *(_cell(members, *column[1:]) for column in columns)]
            for (encoder, losses), members in measured.items()
        ]
        lines += [f"## {title}", "", markdown_table(headings, rows, words=2), ""]
    gains = _gain_rows(groups)
    if gains:
        lines += [
            "## Compared",
            "",
            markdown_table(["", "held out", "unseen", "n"], gains),
            "",
            "cgF1 x 100 with one box, less that of another run with the same seed on the same scenes: losses "
            "against none in the same encoder, encoders against the first; 95% intervals over both.",
            "",
        ]
    costs = [[row["cost"], row["expected"], shown(row["measured"], "+.0%")] for row in _expectations(groups)]
    lines += [
        "## Expected and measured",
        "",
        markdown_table(["cost", "expected", "measured"], costs, words=3),
        "",
        "Alignment losses are compared with none on the same encoder, encoders with `roi` without alignment. "
        "Times are CPU seconds, the best of several; activations are what autograd keeps of a step, weights "
        f"apart. The target is a box F1 of {recipe.target_f1} on held-out pictures, in the mean of {LOOKS} "
        "looks.",
        "",
    ]
    if drawn:
        lines += [f"![cgF1 with one box, and how it is reached]({FIGURES})", ""]
    return "\n".join(lines)


def _gain_rows(groups: dict[tuple[str, str], list[Measured]]) -> list[list[str]]:
    """Every pair that differs in one thing alone: its gain in cgF1, on both splits, and n."""
    first = next(iter(groups), None)
    rows = []
    for encoder, losses in groups:
        pairs = [((encoder, "none"), f"{encoder}: {losses} less none")] if losses != "none" else []
        if first is not None and encoder != first[0]:
            pairs.append(((first[0], losses), f"{encoder} less {first[0]}, {losses}"))
        for base, words in pairs:
            if base in groups:
                found = [
                    cgf1_gain(_counts(groups[encoder, losses], split), _counts(groups[base], split))
                    for split in SPLITS
                ]
                count = 0 if found[0] is None else found[0].examples
                rows.append([words, *(gain_shown(it) for it in found), str(count)])
    return rows


def _counts(members: Sequence[Measured], split: str) -> dict[int, list[list[int]]]:
    """Seed -> counts of every scene, with one box; of cells that kept them."""
    found = {it["seed"]: it.get("settings", {}).get(split, {}).get("one box", {}) for it in members}
    return {seed: figures["counts"] for seed, figures in found.items() if "counts" in figures}


def _expectations(groups: dict[tuple[str, str], list[Measured]]) -> list[dict[str, Any]]:
    """Relative costs: what was expected, and the mean of what was measured; NaN where a side is missing."""

    def ratio(place: tuple[str, ...], more: tuple[str, str], less: tuple[str, str]) -> float:
        above, below = (_mean(groups.get(key, []), place) for key in (more, less))
        return above / below - 1 if below else math.nan

    def aligned(place: tuple[str, ...]) -> float:
        encoders = dict.fromkeys(encoder for encoder, _ in groups)
        values = [ratio(place, (encoder, "both"), (encoder, "none")) for encoder in encoders]
        return float(np.mean(values)) if values else math.nan

    step, answer = ("training", "step_seconds"), ("answering", "answer_seconds")
    activations, gradients = ("training", "activation_mb"), ("training", "gradient_mb")
    plain = ("roi", "none")
    rows = (
        ("alignment losses: time of a training step", "+5 to 8%", aligned(step)),
        ("unified encoder: a whole answer", "+10 to 15%", ratio(answer, ("unified", "none"), plain)),
        ("adaptive encoder: a whole answer", "+8 to 12%", ratio(answer, ("adaptive", "none"), plain)),
        ("alignment losses: memory of activations", "+15 to 20%", aligned(activations)),
        ("alignment losses: memory of gradients", "+10 to 15%", aligned(gradients)),
    )
    return [{"cost": cost, "expected": expected, "measured": value} for cost, expected, value in rows]


def _draw(groups: dict[tuple[str, str], list[Measured]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    encoders = list(dict.fromkeys(encoder for encoder, _ in groups))
    losses = list(dict.fromkeys(loss for _, loss in groups))
    place = ("settings", "held_out", "one box", "cgf1")
    for i, loss in enumerate(losses):
        values = [[100 * v for v in _values(groups.get((encoder, loss), []), place)] for encoder in encoders]
        means = [float(np.mean(v)) if v else 0.0 for v in values]
        spread = [float(np.std(v)) if v else 0.0 for v in values]
        at = np.arange(len(encoders)) + (i - (len(losses) - 1) / 2) * 0.8 / len(losses)
        left.bar(at, means, 0.8 / len(losses), yerr=spread, label=loss, capsize=2)
    left.set_xticks(np.arange(len(encoders)), encoders, fontsize=8)
    left.set(title="mask cgF1 x 100, one box, held-out scenes")
    for encoder in encoders:
        runs = [np.array(m["box_f1"]) for key, ms in groups.items() if key[0] == encoder for m in ms]
        runs = [run for run in runs if run.size]
        if runs and len({run.shape for run in runs}) == 1:
            mean = np.mean(runs, axis=0)
            right.plot(mean[:, 0], 100 * mean[:, 1], marker="o", markersize=3, label=encoder)
    right.set(title="box F1 x 100 while training, mean over losses and seeds", xlabel="step")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        if axes.has_data():
            axes.legend(fontsize=8)
    save_chart(figure, path)


def _values(members: Sequence[Measured], place: tuple[str, ...]) -> list[float]:
    found: list[float] = []
    for member in members:
        value: Any = member
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            found.append(float(value))
    return found


def _mean(members: Sequence[Measured], place: tuple[str, ...]) -> float:
    values = _values(members, place)
    return float(np.mean(values)) if values else math.nan


def _cell(members: Sequence[Measured], place: tuple[str, ...], factor: float, digits: int) -> str:
    values = [factor * value for value in _values(members, place)]
    if not values:
        return "-"
    shown = f"{np.mean(values):.{digits}f}"
    if len(values) < len(members):  # some seeds never got there
        return f"{shown} ({len(values)} of {len(members)})"
    return f"{shown} ± {np.std(values):.{digits}f}" if len(members) > 1 else shown
