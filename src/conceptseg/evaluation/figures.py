"""Charts of an evaluation, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.evaluation.average_precision import RECALL_LEVELS
from conceptseg.evaluation.tally import SCORE_GRID, Curves
from conceptseg.report import BLUE, GREEN, GREY, ORANGE, label_axes, save_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PHRASES = 30  # bars that can be read
_BINS = 15  # as in the calibration error


def draw_precision_recall(curves: Curves, threshold: float, title: str, path: Path) -> None:
    """Precision over recall at three overlaps, and what the score threshold does to either."""
    figure, (left, right) = _figure(2)
    at_recall = curves.precision_at_recall
    rows = (
        (at_recall[0], "IoU 0.50"),
        (at_recall[5], "IoU 0.75"),
        (at_recall.mean(0), "mean of 0.50 to 0.95"),
    )
    for (values, name), color in zip(rows, (GREEN, BLUE, ORANGE), strict=True):
        left.plot(RECALL_LEVELS, values, color=color, label=f"{name}: AP {100 * values.mean():.1f}")
    label_axes(left, f"{title}, mean over phrases", "recall", "precision")

    precision, recall = curves.precision_at_score, curves.recall_at_score
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    for values, name, color in (
        (precision, "precision", GREEN),
        (recall, "recall", BLUE),
        (f1, "F1", ORANGE),
    ):
        right.plot(SCORE_GRID, values, color=color, label=name)
    right.axvline(threshold, color=GREY, linestyle=":", label=f"threshold {threshold:g}")
    label_axes(right, f"{title} at IoU 0.5, all detections", "score threshold", "")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    save_chart(figure, path)


def draw_presence(scores: NDArray[np.float64], labels: NDArray[np.bool_], path: Path) -> None:
    """Presence of present and absent phrases, and how often a concept is there when presence says so."""
    figure, (left, right) = _figure(2)
    edges = np.linspace(0, 1, _BINS + 1)
    for flag, name, color in ((True, "present", GREEN), (False, "absent", ORANGE)):
        chosen = scores[labels == flag]
        left.hist(chosen.tolist(), edges.tolist(), color=color, alpha=0.6, label=f"{name} ({len(chosen)})")
    label_axes(left, "presence score", "presence", "pairs")

    index = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(index, minlength=_BINS)
    filled = count > 0
    said = np.bincount(index, weights=scores, minlength=_BINS)[filled] / count[filled]
    true = np.bincount(index, weights=labels, minlength=_BINS)[filled] / count[filled]
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
    right.plot(said, true, color=BLUE, linewidth=0.8)
    sizes = 15 + 150 * count[filled] / max(1, count.max())
    right.scatter(said, true, sizes, color=BLUE, label="pairs with this presence")
    right.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    label_axes(right, "calibration", "presence", "share present")
    save_chart(figure, path)


def draw_phrases(per_phrase: dict[str, dict[str, Any]], kind: str, path: Path) -> None:
    """AP50 and F1 of the phrases with the most objects, best first.

    Not cgF1: where a phrase is in every image, its own is 0 by definition.
    """
    names = sorted(per_phrase, key=lambda name: per_phrase[name]["counts"]["objects"], reverse=True)
    names = sorted(
        (name for name in names[:MOST_PHRASES] if per_phrase[name]["counts"]["objects"]),
        key=lambda name: per_phrase[name][kind]["map50"],
    )
    figure, (axes,) = _figure(1, height=1.2 + 0.36 * max(2, len(names)))
    rows = np.arange(len(names))
    for offset, metric, color in ((0.2, "map50", BLUE), (-0.2, "f1_50", GREEN)):
        values = [per_phrase[name][kind][metric] for name in names]
        label = {"map50": "AP50", "f1_50": "F1 at IoU 0.5"}[metric]
        axes.barh(rows + offset, values, 0.38, color=color, label=f"{kind} {label}")
    # A phrase is text: "$" in it begins no formula.
    axes.set_yticks(rows, [_short(name).replace("$", r"\$") for name in names])
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlim(min(0, axes.get_xlim()[0]), 1)
    label_axes(axes, "phrases with the most objects", "", "")
    save_chart(figure, path)


def _figure(columns: int, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * columns if columns > 1 else 7.5, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _short(phrase: str, longest: int = 36) -> str:
    return phrase if len(phrase) <= longest else phrase[: longest - 3] + "..."
