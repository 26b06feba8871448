"""A fine-tuning run for people: report.md with the figures before and after, and pictures of both.

RUN/report.md
RUN/comparison.json
RUN/progress.png
RUN/before_after.png, RUN/overlays/1.png ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.evaluation.evaluate import EvaluationResult
from conceptseg.evaluation.report import main_kind
from conceptseg.finetune.comparison import Comparison
from conceptseg.finetune.overlays import draw_overlays
from conceptseg.finetune.recipe import FinetuneRecipe
from conceptseg.report import label_axes, markdown_table, percent, plain, report_json, save_chart
from conceptseg.segmenter import Segmenter
from conceptseg.train.run_folder import RunFolder

REPORT, COMPARISON, PROGRESS = "report.md", "comparison.json", "progress.png"

# (heading, how it is read from the metrics of the main kind of region)
ROWS: tuple[tuple[str, Callable[[dict[str, Any], str], float]], ...] = (
    ("cgF1", lambda m, kind: m[kind]["cgf1"]),
    ("AP, IoU 0.5 to 0.95", lambda m, kind: m[kind]["map"]),
    ("AP50", lambda m, kind: m[kind]["map50"]),
    ("precision at IoU 0.5", lambda m, kind: m[kind]["precision_50"]),
    ("recall at IoU 0.5", lambda m, kind: m[kind]["recall_50"]),
    ("absent phrases with any detection", lambda m, kind: m[kind]["il_fpr"]),
    ("presence AUROC", lambda m, kind: m["presence"]["auroc"]),
    ("presence calibration error", lambda m, kind: m["presence"]["ece"]),
)


@dataclass(frozen=True)
class Spent:
    """What a run took since it was last started."""

    clock: float  # seconds
    processor: float  # seconds of processor time, over all cores and with workers that have ended


def write_report(
    folder: RunFolder,
    recipe: FinetuneRecipe,
    found: Comparison,
    models: tuple[Segmenter, Segmenter],
    judge: ConceptDataset,
    spent: Spent,
) -> Path:
    """Write the report and its pictures.

    Args:
        folder: of the run.
        recipe: settled.
        found: the figures.
        models: before and after.
        judge: the held-out images; some are drawn.
        spent: time since the run began or was resumed.

    Returns:
        Path of the report.
    """
    write_text(folder.path / COMPARISON, comparison_json(found))
    drawn = draw_progress(folder.metrics(), folder.path / PROGRESS)
    pictures = draw_overlays(models, judge, folder.path)
    write_text(folder.path / REPORT, _markdown(recipe, found, models, judge, spent, drawn, pictures))
    return folder.path / REPORT


def comparison_json(found: Comparison) -> str:
    """Every metric before and after; what is undefined is null."""
    parts = {
        "before": found.before,
        "after": found.after,
        "scenes_before": found.scenes_before,
        "scenes_after": found.scenes_after,
    }
    values: dict[str, Any] = {
        name: None if result is None else {**result.metrics, "setup": result.setup}
        for name, result in parts.items()
    }
    values["recommended_threshold"] = found.threshold
    return report_json(values)


def summary_rows(found: Comparison) -> list[list[str]]:
    """The table of the report and of the command line: what, before, after."""
    kind = main_kind(found.after)
    rows = [
        _row(f"{name}, {kind}" if i < 6 else name, read, found.before, found.after, kind)
        for i, (name, read) in enumerate(ROWS)
    ]
    if found.scenes_before is not None and found.scenes_after is not None:
        for name, read in (ROWS[0], ROWS[5]):
            rows.append(_row(f"scenes: {name}", read, found.scenes_before, found.scenes_after, "masks"))
    return rows


def _row(
    name: str,
    read: Callable[[dict[str, Any], str], float],
    before: EvaluationResult,
    after: EvaluationResult,
    kind: str,
) -> list[str]:
    return [name, percent(read(before.metrics, kind)), percent(read(after.metrics, kind))]


def draw_progress(lines: Sequence[dict[str, Any]], path: Path) -> bool:
    """Figure of what validation found over the steps; False where it never looked."""
    looks = [line for line in lines if line["kind"] == "validation"]
    if not looks:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name for name in looks[-1] if name.split("/")[0] in ("masks", "boxes", "presence")]
    for axes, wanted in ((left, ("cgf1", "map", "map50")), (right, ("precision", "recall", "auroc", "ece"))):
        for name in names:
            if name.split("/")[1] in wanted:
                steps = [line["step"] for line in looks]
                axes.plot(steps, [line[name] for line in looks], "o-", markersize=3, label=name)
        axes.set_ylim(0, 1.02)
        label_axes(axes, "held-out images", "step", "")
    save_chart(figure, path)
    return True


def _markdown(
    recipe: FinetuneRecipe,
    found: Comparison,
    models: tuple[Segmenter, Segmenter],
    judge: ConceptDataset,
    spent: Spent,
    progress: bool,
    pictures: Sequence[str],
) -> str:
    before, after = models
    counts = found.after.metrics["counts"]
    calibration = after.config.presence_calibration
    trained = ", ".join(recipe.trainable) or "everything"
    parts = [
        f"# {recipe.name}: {recipe.model} fine-tuned on {judge.name}",
        f"{recipe.steps:,} steps of {recipe.batch.images * recipe.batch.questions} questions at "
        f"{recipe.resolution} px; {spent.clock / 60:.1f} minutes since the last start, "
        f"{spent.processor / 60:.1f} of processor time. Trained: {trained}.",
        _kept(recipe, after),
        f"Judged on {judge.split}: {counts['images']:,} images, {counts['objects']:,} objects, "
        f"{counts['positive_pairs']:,} present and {counts['absent_pairs']:,} absent (image, phrase) pairs; "
        f"asked by phrase at a threshold of 0.5, at {before.resolution} px before and {after.resolution} px "
        "after. The best look at these images was kept and presence was fitted on them, so that other images "
        "may do a little worse.",
        "## Before and after",
        markdown_table(["x 100", "before", "after"], summary_rows(found)),
        "## Per phrase",
        markdown_table(
            [
                *("phrase, x 100", "objects", "present in", "absent in"),
                *("AP50 before", "AP50 after", "pmF1 before", "pmF1 after"),
            ],
            _phrase_rows(found),
        ),
        "No cgF1 per phrase: its correlation compares images that show the phrase with images that do not, "
        "and of those there are few, or none. pmF1 is its other half, over the images that show the phrase.",
        "## In use",
        f"Presence = sigmoid({calibration.scale:.3g} x logit + {calibration.offset:.3g}), as "
        f"config.json says (presence mode {after.config.presence_mode!r}).",
    ]
    if found.threshold is not None:
        parts.append(
            f"Best threshold on these images (F1 at IoU 0.5): **{found.threshold:g}**; the default is 0.5. "
            "It is kept as `recommended_threshold` in the provenance of config.json."
        )
    if progress:
        parts += ["## Over the run", f"![Held-out images over the run]({PROGRESS})"]
    parts.append("![Losses](losses.png)")
    parts += ["## Annotated, before and after", "At a threshold of 0.5."]
    parts += [f"![Annotated, before and after]({file})" for file in pictures]
    return "\n\n".join(parts) + "\n"


def _kept(recipe: FinetuneRecipe, after: Segmenter) -> str:
    """What was done against forgetting."""
    share = recipe.keep.rehearsal or 0.0
    rehearsed = after.config.provenance["rehearsed"] if share else "nothing"
    said = f"Rehearsed: {rehearsed}" + (f", in {100 * share:.0f}% of the steps. " if share else ". ")
    tuned = after.config.provenance["tuned_share"]
    if tuned == 1:
        return f"{said}The tuned weights are kept as they are."
    return f"{said}Weights: {100 * tuned:.0f}% the tuned ones, {100 * (1 - tuned):.0f}% those of the start."


def _phrase_rows(found: Comparison) -> list[list[str]]:
    kind = main_kind(found.after)
    before, after = found.before.metrics["per_phrase"], found.after.metrics["per_phrase"]
    rows = []
    for phrase, metrics in after.items():
        if not metrics["counts"]["objects"]:
            continue
        cells = [str(metrics["counts"][name]) for name in ("objects", "positive_pairs", "absent_pairs")]
        for name in ("map50", "pmf1"):
            cells += [percent(side[phrase][kind][name]) for side in (before, after)]
        rows.append([plain(phrase), *cells])
    return rows
