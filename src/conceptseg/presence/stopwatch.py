"""What a piece of work cost, however often it was stopped: what is spent so far is kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conceptseg.checkpoints.atomic_write import write_text


@contextmanager
def stopwatch(file: Path, run: Path) -> Iterator[dict[str, float]]:
    """Time what is done inside, and add what earlier attempts took.

    Args:
        file: keeps the sum; a kill without warning loses the time of that attempt alone.
        run: what the work leaves behind when it is stopped; without it nothing goes on, and nothing is kept.

    Yields:
        `seconds` and `cpu_seconds` of this process; complete once the work is done.
    """
    spent = read_spent(file)
    began, processor = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent["seconds"] = round(spent["seconds"] + time.perf_counter() - began, 1)
        spent["cpu_seconds"] = round(spent["cpu_seconds"] + time.process_time() - processor, 1)
        if run.is_dir():
            write_text(file, json.dumps(spent) + "\n")


def read_spent(file: Path) -> dict[str, float]:
    """The sum so far; zero where nothing was done."""
    if not file.is_file():
        return {"seconds": 0.0, "cpu_seconds": 0.0}
    return {name: float(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
