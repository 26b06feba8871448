"""Where commands print: data to standard output, messages to standard error; rich reads NO_COLOR itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PIPED_WIDTH = 160  # columns of a table that goes into a file or a pipe


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Args:
    headings: one per column.
    rows: cells, already formatted.
    numbers: the headings whose column is aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a file name in [brackets] is not markup
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2))


def print_note(message: str) -> None:
    """A message for the person at the screen, kept out of what a program reads."""
    print(message, file=sys.stderr, flush=True)


def print_written(message: str, *, as_json: bool) -> None:
    """The last line: what was written where. With --json standard output holds nothing but JSON."""
    print(message, file=sys.stderr if as_json else sys.stdout)


@contextmanager
def progress_bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, for people only: nothing is shown when that is a file or a pipe.

    Args:
        doing: one word in front of the bar.

    Returns:
        To be called with how many are done, and of how many.
    """
    if not sys.stderr.isatty():
        yield lambda done, wanted: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(doing, total=None)
        yield lambda done, wanted: bar.update(row, completed=done, total=wanted)
