"""What the charts of all reports share: colours, labels, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conceptseg.checkpoints.atomic_write import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN, BLUE, ORANGE, GREY = "#2a9d5c", "#2b7bba", "#e07b28", "#888888"


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, axes, grid and legend; a dollar sign in a title is one."""
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def save_chart(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
