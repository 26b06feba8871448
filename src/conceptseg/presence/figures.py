"""Charts of a diagnosis and of repairs, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from conceptseg.presence.features import FeatureDrift
from conceptseg.presence.pair_outcomes import PairAnswer
from conceptseg.report import BLUE, GREEN, GREY, ORANGE, label_axes, save_chart

BINS = 40


def draw_presence_logits(models: Mapping[str, Sequence[PairAnswer]], path: Path) -> None:
    """Histograms of raw presence logits, one row per model, on one axis."""
    from matplotlib.figure import Figure

    logits = [answer.presence_logit for answers in models.values() for answer in answers]
    low, high = min(logits), max(logits)
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1).tolist()
    figure = Figure(figsize=(7.5, 2.6 * len(models)), layout="constrained")
    for row, (name, answers) in enumerate(models.items(), start=1):
        axes = figure.add_subplot(len(models), 1, row)
        for flag, label, color in ((True, "present", GREEN), (False, "absent", ORANGE)):
            chosen = [answer.presence_logit for answer in answers if answer.present == flag]
            if chosen:
                mean = float(np.mean(chosen))
                axes.hist(chosen, edges, color=color, alpha=0.55, label=f"{label} ({len(chosen)})")
                axes.axvline(mean, color=color, linewidth=1.5, label=f"mean {mean:.2f}")
        axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
        label_axes(axes, name, "presence logit" if row == len(models) else "", "pairs")
    save_chart(figure, path)


def draw_drift(drift: Mapping[str, FeatureDrift], path: Path) -> None:
    """Cosine, linear CKA and relative error of each component, in the order of the network."""
    from matplotlib.figure import Figure

    names = list(drift)
    rows = np.arange(len(names))[::-1]
    figure = Figure(figsize=(9.5, 1.2 + 0.34 * len(names)), layout="constrained")
    axes = figure.add_subplot(1, 2, 1)
    cosine = [np.nan if drift[name].cosine is None else drift[name].cosine for name in names]
    axes.barh(rows + 0.2, np.array(cosine, float), 0.38, color=BLUE, label="cosine")
    axes.barh(rows - 0.2, [drift[name].cka for name in names], 0.38, color=GREEN, label="linear CKA")
    axes.set_yticks(rows, names)
    axes.set_xlim(min(0.0, np.nanmin([0.0, *cosine])), 1)
    label_axes(axes, "alike (1 = the teacher's)", "", "")
    axes = figure.add_subplot(1, 2, 2)
    error = [np.nan if drift[name].relative_error is None else drift[name].relative_error for name in names]
    shift = [np.nan if drift[name].mean_shift is None else drift[name].mean_shift for name in names]
    axes.barh(rows + 0.2, np.array(error, float), 0.38, color=ORANGE, label="relative error")
    axes.barh(rows - 0.2, np.array(shift, float), 0.38, color=GREY, label="shift of channel means")
    axes.set_yticks(rows, [])
    label_axes(axes, "apart (0 = the teacher's)", "", "")
    save_chart(figure, path)
