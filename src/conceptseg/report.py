"""What every report is made of: JSON without NaN, Markdown tables, charts."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptseg.checkpoints.atomic_write import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN, BLUE, ORANGE, GREY = "#2a9d5c", "#2b7bba", "#e07b28", "#888888"
NO_FIGURES = 'Figures were left out: they need matplotlib (`pip install "conceptseg[train]"`).'


def report_json(value: Any) -> str:
    """Nested values as the text of a JSON file; what is not finite becomes null."""
    return json.dumps(without_nan(value), indent=2, allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """The same nested values with None for what is not finite, as JSON has it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first columns hold words, and the others figures.

    Args:
        headings: of the columns.
        rows: cells, as they are to stand there.
        words: how many columns hold words.
    """
    lines = [headings, ["---"] * words + ["---:"] * (len(headings) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(text: str) -> str:
    """Words of the data, which may hold anything, as text and not as Markdown."""
    return re.sub(r"([\\`*_{}\[\]|#!~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def shown(value: float | None, style: str) -> str:
    """A figure in a format such as ".2f"; "-" where it is undefined."""
    return "-" if value is None or math.isnan(value) else format(value, style)


def percent(value: float | None) -> str:
    """A fraction for people: x 100, "-" where it is undefined."""
    return "-" if value is None else shown(100 * value, ".1f")


def can_draw() -> bool:
    """Charts need matplotlib, which comes with the extra `conceptseg[train]`."""
    return find_spec("matplotlib") is not None


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, axes, grid and legend; a dollar sign in a title is one."""
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    if axes.has_data():
        axes.legend(fontsize=8)


def save_chart(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all; folders on the way are made."""
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
