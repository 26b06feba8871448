"""An evaluation on disk: metrics.json for programs, report.md with figures for people.

FOLDER/metrics.json
FOLDER/report.md
FOLDER/precision_recall.png, presence.png, phrases.png
FOLDER/worst/miss_1.png ..., false_1.png ...
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import conceptseg
from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.evaluation.evaluate import EvaluationResult
from conceptseg.evaluation.figures import draw_phrases, draw_precision_recall, draw_presence
from conceptseg.evaluation.mistakes import Mistake, draw_mistake
from conceptseg.evaluation.tally import SCORE_GRID, Curves
from conceptseg.report import NO_FIGURES, can_draw, markdown_table, percent, plain, report_json

METRICS = "metrics.json"
REPORT = "report.md"
WORST_FOLDER = "worst"
MOST_ROWS = 200  # phrases in the table of the report; metrics.json has them all
HEADLINES = {
    "cgf1": "cgF1",
    "il_mcc": "IL-MCC",
    "pmf1": "pmF1",
    "map": "AP",
    "map50": "AP50",
    "map75": "AP75",
    "precision": "precision",
    "recall": "recall",
    "precision_50": "precision at IoU 0.5",
    "recall_50": "recall at IoU 0.5",
}
_PROMPTS = {
    "text": "phrases",
    "boxes": "one example box per phrase",
    "both": "phrases, each with one example box",
}
_READING = """\
All figures x 100. cgF1 = IL-MCC x pmF1: is the concept there at all (correlation over images), times how
well its objects are found where it is (F1). cgF1, pmF1, precision and recall count detections with a score of
at least {threshold:g} and are means over IoU 0.50, 0.55, ..., 0.95, unless another IoU is named; precision
and recall are over all pairs. AP looks at every score and is the mean over phrases."""


def write_evaluation(result: EvaluationResult, folder: str | os.PathLike[str]) -> Path:
    """Write `metrics.json`, `report.md` and its pictures; files of an earlier evaluation there are replaced.

    Returns:
        Path of the report.
    """
    folder = Path(folder)
    write_text(folder / METRICS, metrics_json(result))
    figures = _draw_figures(result, folder) if can_draw() else None
    misses = _draw_worst(result.misses, "miss", folder)
    false = _draw_worst(result.false_positives, "false", folder)
    write_text(folder / REPORT, _markdown(result, figures, misses, false))
    return folder / REPORT


def metrics_json(result: EvaluationResult) -> str:
    """The metrics and the setup; what is undefined is null."""
    setup = {**result.setup, "conceptseg": conceptseg.__version__}
    return report_json({**result.metrics, "setup": setup})


def _draw_figures(result: EvaluationResult, folder: Path) -> list[tuple[str, str]]:
    """(title, file name) of each figure."""
    kind = main_kind(result)
    title = result.setup["model"] + ", " + kind
    draw_precision_recall(
        result.curves[kind], result.setup["threshold"], title, folder / "precision_recall.png"
    )
    figures = [("Precision, recall and the score threshold", "precision_recall.png")]
    if len(result.presence_scores):
        draw_presence(result.presence_scores, result.presence_labels, folder / "presence.png")
        figures.append(("Presence", "presence.png"))
    if result.metrics["counts"]["objects"]:
        draw_phrases(result.metrics["per_phrase"], kind, folder / "phrases.png")
        figures.append(("Phrases", "phrases.png"))
    return figures


def main_kind(result: EvaluationResult) -> Any:
    """Masks where the data has them, else boxes."""
    return "masks" if "masks" in result.curves else "boxes"


def best_threshold(curves: Curves) -> tuple[float, float] | None:
    """The score threshold with the best F1 at IoU 0.5 on this data, and that F1; None if nothing is found."""
    best: tuple[float, float] | None = None
    for score, precision, recall in zip(
        SCORE_GRID, curves.precision_at_score, curves.recall_at_score, strict=True
    ):
        f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        if f1 > (best[1] if best else 0.0):
            best = float(score), float(f1)
    return best


def _draw_worst(mistakes: Sequence[Mistake], name: str, folder: Path) -> list[tuple[Mistake, str]]:
    """Draw the pictures, and take away those that an earlier evaluation left beyond them."""
    drawn = []
    for number, mistake in enumerate(mistakes, start=1):
        file = f"{WORST_FOLDER}/{name}_{number}.png"
        with replacing(folder / file) as draft:
            draw_mistake(mistake).save(draft, format="PNG")
        drawn.append((mistake, file))
    for left in (folder / WORST_FOLDER).glob(f"{name}_*.png"):
        number_in_name = re.fullmatch(rf"{name}_(\d+)", left.stem)
        if number_in_name and int(number_in_name[1]) > len(mistakes):
            left.unlink()
    return drawn


def _markdown(
    result: EvaluationResult,
    figures: list[tuple[str, str]] | None,
    misses: Sequence[tuple[Mistake, str]],
    false: Sequence[tuple[Mistake, str]],
) -> str:
    setup, counts = result.setup, result.metrics["counts"]
    parts = [
        f"# {plain(setup['model'])} on {plain(setup['dataset'])}, {plain(setup['split'])}",
        f"{counts['images']:,} images, {counts['objects']:,} objects, {counts['pairs']:,} (image, phrase) "
        f"pairs: the phrase is present in {counts['positive_pairs']:,} of them and absent in "
        f"{counts['absent_pairs']:,}. "
        f"Asked by {_PROMPTS[setup['prompts']]}; score threshold {setup['threshold']:g}, presence "
        f"{setup['presence']}, {setup['resolution']} px, {setup['dtype']}.",
        *(f"**Note:** {note}" for note in notes(result)),
        "## Metrics",
        _region_table(result),
        _presence_line(result),
        _READING.format(threshold=setup["threshold"]),
    ]
    if figures is None:
        parts.append(NO_FIGURES)
    for title, file in figures or []:
        parts += [f"## {title}", f"![{title}]({file})"]
    parts += ["## Per phrase", *_phrase_table(result)]
    for title, drawn in (("Worst misses", misses), ("Worst false positives", false)):
        if drawn:
            parts += [f"## {title}", "Red: missed. Orange: false, with its score. Green: right. At IoU 0.5."]
        for mistake, file in drawn:
            where = f"{plain(mistake.phrase)}, {plain(mistake.path.name)}: {mistake.describe()}"
            parts += [f"{where}\n\n![{where}]({file})"]
    return "\n\n".join(parts) + "\n"


def notes(result: EvaluationResult) -> list[str]:
    """What a reader of the figures must know about this data."""
    counts = result.metrics["counts"]
    found = []
    if not counts["pairs"]:
        found.append("nothing was asked; the data names no phrase that is present or absent.")
    elif not counts["absent_pairs"]:
        found.append(
            "no phrase was absent from any image, so IL-MCC and with it cgF1 are 0 by definition, and "
            "presence cannot be ranked."
        )
    elif not counts["positive_pairs"]:
        found.append("no phrase was present in any image; only false alarms can be counted.")
    if counts["skipped_pairs"]:
        found.append(
            f"{counts['skipped_pairs']:,} pairs were not asked: no image shows an example of the phrase."
        )
    if counts["incomplete_pairs"]:
        found.append(
            f"{counts['incomplete_pairs']:,} pairs have objects that are not annotated; they count for "
            "presence alone."
        )
    if counts["pairs"] and main_kind(result) == "boxes":
        found.append("not every object has a mask in this data, so masks are not judged.")
    return found


def _region_table(result: EvaluationResult) -> str:
    kinds = ("masks", "boxes") if main_kind(result) == "masks" else ("boxes",)
    rows = [[kind, *(percent(result.metrics[kind][name]) for name in HEADLINES)] for kind in kinds]
    return markdown_table(["", *HEADLINES.values()], rows)


def _presence_line(result: EvaluationResult) -> str:
    auroc, ece = (percent(result.metrics["presence"][name]) for name in ("auroc", "ece"))
    line = f"Presence: AUROC {auroc} (50 is chance), calibration error {ece} (0 is best)."
    best = best_threshold(result.curves[main_kind(result)])
    if best is not None:
        line += f" On this data, F1 at IoU 0.5 is best at a threshold of {best[0]:.2f}: {percent(best[1])}."
    return line


def _phrase_table(result: EvaluationResult) -> list[str]:
    kind, per_phrase = main_kind(result), result.metrics["per_phrase"]
    names = sorted(per_phrase, key=lambda name: (-per_phrase[name]["counts"]["objects"], name))
    rows = []
    for name in names[:MOST_ROWS]:
        values, counts = per_phrase[name], per_phrase[name]["counts"]
        rows.append(
            [
                plain(name),
                *(percent(values[kind][metric]) for metric in ("cgf1", "il_mcc", "pmf1", "map", "map50")),
                percent(values["presence"]["auroc"]),
                *(f"{counts[c]:,}" for c in ("positive_pairs", "absent_pairs", "objects", "predictions")),
            ]
        )
    headings = ["phrase", "cgF1", "IL-MCC", "pmF1", "AP", "AP50", "presence AUROC"]
    table = markdown_table([*headings, "present in", "absent in", "objects", "detections"], rows)
    if len(names) <= MOST_ROWS:
        return [table]
    return [table, f"The {MOST_ROWS} phrases with the most objects; {METRICS} has all {len(names):,}."]
