"""Start anew: what was labelled before goes, and what somebody made of it stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from conceptseg.labelling.ledger import LEDGER, has_ledger, lock_folder
from conceptseg.labelling.writing import digest_of


def throw_away(folder: Path) -> None:
    """Remove the ledger of a folder and the files that were written from it and not changed since.

    Raises:
        OptionError: another process labels into this folder.
    """
    if not has_ledger(folder):
        return
    lock = lock_folder(folder)
    try:
        try:
            with closing(sqlite3.connect(folder / LEDGER, isolation_level=None)) as database:
                database.execute("DELETE FROM written")  # if it comes no further than half, files come back
                for name, digest in database.execute("SELECT path, digest FROM files"):
                    if digest_of(folder / name) == digest:
                        (folder / name).unlink()
        except sqlite3.DatabaseError:
            pass  # damaged: it no longer says which files are its own, so they stay
        for name in (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm"):
            (folder / name).unlink(missing_ok=True)
    finally:
        lock.release()
