"""What short trainings of the exemplar path did, drawn: gates and kernels, the gap and what is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.report import BLUE, GREEN, GREY, ORANGE, label_axes, save_chart
from conceptseg.study.intervals import Estimate

WHEN = {"before": GREY, "after": BLUE}
KERNELS = {"3 x 3": GREY, "5 x 5": GREEN, "7 x 7": BLUE}
Runs = Sequence[dict[str, Any]]  # of one variant, one for each seed


def draw_bridge(runs: Runs, levels: Sequence[str], path: Path) -> None:
    """Shares of the levels, a dot for each seed; and the gate of every channel, sorted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for when, colour in WHEN.items():
        for number, run in enumerate(runs):
            label = when if number == 0 else None
            left.plot(range(len(levels)), run[when]["level_weights"], "o", color=colour, label=label)
            right.plot(np.sort(run[when]["gate"]), color=colour, linewidth=1, label=label)
    left.set_xticks(range(len(levels)), levels)
    left.set(xlim=(-0.5, len(levels) - 0.5), ylim=(0, 1))
    right.set_ylim(0, 1)
    label_axes(left, "share of each level in the token", "", "")
    label_axes(right, "gate: share of the exemplar's side", "channel, sorted", "")
    save_chart(figure, path)


def draw_adaptive(runs: Runs, path: Path) -> None:
    """The share of every kernel against the side of the box, before and after, of the first seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, when in zip(figure.subplots(1, 2, sharey=True), WHEN, strict=True):
        rows = np.array(runs[0][when]["kernels"])  # (examples, 1 + kernels)
        for place, (kernel, colour) in enumerate(KERNELS.items(), start=1):
            axes.plot(rows[:, 0], rows[:, place], ".", color=colour, markersize=3, label=kernel)
        label_axes(axes, f"share of each kernel, {when}", "side of the box, share of the picture", "")
    save_chart(figure, path)


def draw_gap_and_gain(points: Mapping[str, Sequence[tuple[str, Estimate, Estimate]]], path: Path) -> None:
    """Each comparison by how far its loss closes the gap and what is found for it, with intervals.

    Args:
        points: kinds of comparisons, each with (name, change of cosine, gain in points).
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for (kind, found), colour in zip(points.items(), (ORANGE, BLUE, GREY), strict=True):
        for number, (name, nearer, gain) in enumerate(found):
            x, y = nearer.value, gain.value
            axes.errorbar(
                x,
                y,
                xerr=[[x - nearer.low], [nearer.high - x]],
                yerr=[[y - gain.low], [gain.high - y]],
                fmt="o",
                color=colour,
                elinewidth=0.7,
                label=kind if number == 0 else None,
            )
            axes.annotate(name, (x, y), (4, 3), textcoords="offset points", fontsize=7, color=colour)
    axes.axhline(0, color=GREY, linewidth=0.7, linestyle=":")
    axes.axvline(0, color=GREY, linewidth=0.7, linestyle=":")
    label_axes(axes, "", "token nearer to its own image feature, change of cosine", "gain in cgF1, points")
    save_chart(figure, path)
