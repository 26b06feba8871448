"""The gap on disk: gap.json for programs, gap.md with gap.png for people.

FOLDER/gap.json   {"model": {"setup", "figures"}, "against": the same or null}
FOLDER/gap.md
FOLDER/gap.png
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import conceptseg
from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.exemplars.gap import Gap
from conceptseg.report import GREY, can_draw, markdown_table, report_json, save_chart, shown

JSON, REPORT, FIGURE = "gap.json", "gap.md", "gap.png"
# (what it is, where it stands, how it is shown); the order of the table.
ROWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("distance of the channel means, in standard deviations", ("statistics", "mean_offset"), ".2f"),
    ("log ratio of the channel variances, mean size", ("statistics", "log_variance_ratio"), ".2f"),
    ("cosine with the own box's features", ("agreement", "raw", "cosine_own"), ".3f"),
    ("the same, means taken off", ("agreement", "centred", "cosine_own"), ".3f"),
    ("cosine with other boxes of the concept, means off", ("agreement", "centred", "cosine_same"), ".3f"),
    ("cosine with other concepts, means off", ("agreement", "centred", "cosine_other"), ".3f"),
    ("own box found first, as it is", ("agreement", "raw", "recall_1"), ".2f"),
    ("own box found first, means off", ("agreement", "centred", "recall_1"), ".2f"),
    ("median rank of the own box, means off", ("agreement", "centred", "median_rank"), ".0f"),
    ("own box found first, after a linear map", ("agreement", "linear", "recall_1"), ".2f"),
    ("same concept nearer than another, means off (AUROC)", ("agreement", "centred", "concept_auroc"), ".3f"),
    ("same concept nearer than another, linear map (AUROC)", ("agreement", "linear", "concept_auroc"), ".3f"),
    ("closing token: cosine with the box's features, means off", ("closing", "centred", "cosine_own"), ".3f"),
    ("closing token: own box found first, linear map", ("closing", "linear", "recall_1"), ".2f"),
    ("closing token: same concept nearer, means off (AUROC)", ("closing", "centred", "concept_auroc"), ".3f"),
    ("token at half the size: cosine", ("scale", "0.5x", "cosine"), ".3f"),
    ("token at half the size: still nearest to itself", ("scale", "0.5x", "recall_1"), ".2f"),
    ("token at twice the size: cosine", ("scale", "2x", "cosine"), ".3f"),
    ("token at twice the size: still nearest to itself", ("scale", "2x", "recall_1"), ".2f"),
    ("token on another background: cosine", ("context", "background", "cosine"), ".3f"),
    ("token on another background: still nearest to itself", ("context", "background", "recall_1"), ".2f"),
    ("token of a box covered by 40%: cosine", ("context", "covered", "cosine"), ".3f"),
    ("token of a box covered by 40%: still nearest to itself", ("context", "covered", "recall_1"), ".2f"),
    ("cosine of the gradients through the two encoders", ("conflict", "cosine"), ".3f"),
    ("share of examples in which they oppose each other", ("conflict", "against_each_other"), ".2f"),
)
_READING = """\
Means off: each side's mean over all examples is taken off before cosines are compared. Linear map: the best
linear map from token to feature, fitted on half of the images and judged on the other half, so it says what
a token knows, wherever it lies. Token cosines compare a changed object's token with the unchanged one's."""


def write_gap(gap: Gap, folder: str | os.PathLike[str], against: Gap | None = None) -> Path:
    """Write `gap.json`, `gap.md` and, where matplotlib is installed, `gap.png`; earlier ones are replaced.

    Args:
        gap: what was measured.
        folder: made if need be.
        against: the same measured of another model, to stand beside: after an alignment, say.

    Returns:
        Path of the report.
    """
    folder = Path(folder)
    write_text(folder / JSON, gap_json(gap, against))
    drawn = can_draw()
    if drawn:
        _draw([it for it in (gap, against) if it is not None], folder / FIGURE)
    write_text(folder / REPORT, _markdown(gap, against, drawn))
    return folder / REPORT


def gap_json(gap: Gap, against: Gap | None) -> str:
    """Both measurements; what is undefined is null."""
    values = {
        "model": dataclasses.asdict(gap),
        "against": None if against is None else dataclasses.asdict(against),
        "conceptseg": conceptseg.__version__,
    }
    return report_json(values)


def gap_table(gap: Gap, against: Gap | None) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, for a person."""
    both = [gap] if against is None else [gap, against]
    rows = [[title, *(shown(_read(it, where), style) for it in both)] for title, where, style in ROWS]
    return ["measured", *_names(both)], rows


def _names(gaps: Sequence[Gap]) -> list[str]:
    """Names that differ: of models of the same name, with the encoder, or else the fingerprint."""
    for more in (None, "encoder", "fingerprint"):
        names = [it.setup["model"] + (f" ({it.setup[more][:16]})" if more else "") for it in gaps]
        if len(set(names)) == len(names):
            break
    return names


def _markdown(gap: Gap, against: Gap | None, drawn: bool) -> str:
    headings, rows = gap_table(gap, against)
    lines = ["# Gap between exemplar encoder and vision encoder", ""]
    for it in (gap, against):
        if it is not None:
            s = it.setup
            lines.append(
                f"- {s['model']} ({s['fingerprint']}): encoder {s['encoder']}, {s['resolution']} px; "
                f"{s['data']}, {s['images']} images, {s['examples']} examples of {s['concepts']} concepts, "
                f"seed {s['seed']}"
            )
    lines += ["", markdown_table(headings, rows), "", _READING, ""]
    if drawn:
        lines += [f"![Agreement, and what moves a token]({FIGURE})", ""]
    return "\n".join(lines)


def _draw(gaps: list[Gap], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = (figure.add_subplot(1, 3, i + 1) for i in range(3))
    for i, (gap, name) in enumerate(zip(gaps, _names(gaps), strict=True)):
        s = gap.figures["statistics"]
        left.scatter(s["image_mean"], s["token_mean"], 8, alpha=0.6, label=name)
        _bars(middle, i, len(gaps), name, {
            "own box": _read(gap, ("agreement", "centred", "cosine_own")),
            "same concept": _read(gap, ("agreement", "centred", "cosine_same")),
            "other concepts": _read(gap, ("agreement", "centred", "cosine_other")),
        })  # fmt: skip
        _bars(right, i, len(gaps), name, {
            "half size": _read(gap, ("scale", "0.5x", "cosine")),
            "twice": _read(gap, ("scale", "2x", "cosine")),
            "background": _read(gap, ("context", "background", "cosine")),
            "covered": _read(gap, ("context", "covered", "cosine")),
        })  # fmt: skip
    left.axline((0, 0), slope=1, color=GREY, linestyle=":")
    left.set(title="channel means", xlabel="image tokens under the boxes", ylabel="exemplar tokens")
    middle.set(title="cosine of token and features, means off")
    right.set(title="cosine with the token before the change", ylim=(min(0, right.get_ylim()[0]), 1))
    for axes in (left, middle, right):
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    save_chart(figure, path)


def _bars(axes: Any, i: int, of: int, name: str, values: dict[str, float]) -> None:
    place = np.arange(len(values)) + (i - (of - 1) / 2) * 0.8 / of
    heights = [0.0 if math.isnan(value) else value for value in values.values()]
    axes.bar(place, heights, 0.8 / of, label=name)
    axes.set_xticks(np.arange(len(values)), list(values), fontsize=8)


def _read(gap: Gap, where: tuple[str, ...]) -> float:
    value: Any = gap.figures
    for key in where:
        value = value.get(key, {})
    return float(value) if isinstance(value, (int, float)) else math.nan
