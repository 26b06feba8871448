"""Pieces of work in one folder: done once, by whichever process is free, and gone on with after a stop.

FOLDER/study.json         what the work is about; other work is refused
FOLDER/GROUP/0007.json    what piece 7 of a group gave; written whole, so it is there or it is not
FOLDER/locks/             which piece is being done; the system frees a lock when its owner ends
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import DataError
from conceptseg.report import without_nan
from conceptseg.study.shared_work import LOCKS, claim

STUDY = "study.json"


@dataclass(frozen=True)
class Piece:
    """One piece: the work that is lost when a process is stopped."""

    group: str
    number: int

    def file(self, folder: Path) -> Path:
        return folder / self.group / f"{self.number:04d}.json"


def begin_work(folder: Path, setup: dict[str, Any]) -> None:
    """Start work in a folder, or go on with the same.

    Raises:
        DataError: the folder holds work on something else.
    """
    wanted = json.loads(json.dumps(setup))
    file = folder / STUDY
    if not file.is_file():
        write_text(file, json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    changed = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if changed:
        words = ", ".join(f"{key} {found.get(key)} there, {wanted.get(key)} here" for key in changed)
        raise DataError(f"{folder} holds work on something else ({words}); give another folder (--work)")


def do_pieces(
    folder: Path,
    pieces: Sequence[Piece],
    work: Callable[[Piece], list[dict[str, Any]]],
    stop_at: float = float("inf"),
    progress: Callable[[Piece], None] | None = None,
) -> list[Piece]:
    """Do every piece that is not done and that no other process is at.

    Args:
        folder: of the work.
        pieces: in order.
        work: what a piece gives: rows of numbers and text.
        stop_at: no piece is begun after this time (`time.time()`).
        progress: called with each piece that was done here.

    Returns:
        Those that were done here.
    """
    done = []
    for piece in pieces:
        file = piece.file(folder)
        if file.is_file():
            continue
        if time.time() >= stop_at:
            break
        with claim(folder / LOCKS / f"{piece.group}-{piece.number:04d}") as ours:
            if ours and not file.is_file():  # another process may have done it since
                rows = without_nan(work(piece))
                write_text(file, json.dumps(rows, allow_nan=False) + "\n")
                done.append(piece)
                if progress is not None:
                    progress(piece)
    return done


def with_helpers(helpers: int, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Call a function here and in so many further processes, and wait for all.

    What a helper leaves because it failed is done here afterwards, where its error then shows.
    """
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=target, args=arguments, daemon=True) for _ in range(helpers)]
    for other in others:
        other.start()
    target(*arguments)
    for other in others:
        other.join()
    if any(other.exitcode for other in others):
        target(*arguments)


def done_rows(folder: Path, pieces: Sequence[Piece]) -> list[dict[str, Any]] | None:
    """The rows of all pieces in order; None while one is not done."""
    files = [piece.file(folder) for piece in pieces]
    if not all(file.is_file() for file in files):
        return None
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
