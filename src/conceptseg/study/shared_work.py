"""Several processes on one folder of work: each piece is done by one of them.

A claim is a lock on a file, which the system frees when its owner ends, however it ends. So nothing has to be
tidied up after a process that was killed, and another one takes its piece over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from conceptseg.errors import TrainingError

LOCKS = "locks"  # folder of them, in that of the work


@contextmanager
def claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a piece of work while the block runs.

    Args:
        path: of the lock; folders on the way are made.
        wait: until it is free; otherwise give up at once.

    Yields:
        Whether it is ours; False where another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def refuse_others(folder: Path, recipe: str) -> None:
    """Raises:
    TrainingError: the folder holds something, and that is no study with such a recipe.
    """
    if folder.is_dir() and not (folder / recipe).is_file():
        if any(path.name != LOCKS for path in folder.iterdir()):
            raise TrainingError(f"{folder} is not empty and holds no study; give another --out")
