"""What was decided about images, saved at once, and every step of it: one SQLite file beside the ledger.

A decision holds all objects of its image: a labelling that is run again, or anew, takes none of them away.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from conceptseg.errors import DataError

FILE = "review.sqlite"
FORM = 1  # of the tables below

State: TypeAlias = Literal["open", "accepted", "rejected"]

TABLES = """
CREATE TABLE decisions (path TEXT PRIMARY KEY, decision BLOB NOT NULL);
CREATE TABLE steps (
    number INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    before BLOB, after BLOB,           -- decisions; NULL: none
    undone INTEGER NOT NULL DEFAULT 0  -- the undone ones are the last
);
"""


@dataclass(frozen=True)
class Object:
    """One object of an image."""

    key: int  # of no other object of its image
    phrase: int  # its place among the phrases
    bbox: tuple[float, ...]  # left, top, width, height in pixels
    area: int  # of the mask, in pixels
    counts: str  # COCO's compressed run lengths
    score: float
    added: bool = False  # by whoever reviewed


@dataclass(frozen=True)
class Decision:
    """How an image stands."""

    state: State
    digest: str  # SHA-256 of the file that was looked at
    phrases: tuple[str, ...]  # that were looked for
    objects: tuple[Object, ...]


class Decisions:
    """Made by `Decisions.open`; to be closed. To be used by one thread at a time."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def open(cls, folder: Path) -> Decisions:
        """Raises:
        DataError: the file is damaged, or of another version.
        """
        database = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            (form,) = database.execute("PRAGMA user_version").fetchone()
            if form == 0:
                database.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {FORM}; COMMIT;")
            elif form != FORM:
                raise DataError(f"{folder / FILE} was written by another version of conceptseg")
        except sqlite3.DatabaseError as error:
            database.close()
            raise DataError(f"{folder / FILE} cannot be read: {error}; move it away to begin anew") from error
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        self._database.close()

    def get(self, path: str) -> Decision | None:
        """What was decided last about the image of this path."""
        row = self._database.execute("SELECT decision FROM decisions WHERE path = ?", (path,)).fetchone()
        return None if row is None else _unpacked(row[0])

    def all(self) -> Iterator[tuple[str, Decision]]:
        """Path and decision of every image that has one."""
        for path, packed in self._database.execute("SELECT path, decision FROM decisions"):
            yield path, _unpacked(packed)

    def decide(self, path: str, decision: Decision) -> None:
        """Keep a decision as a step that can be undone; what was undone before can no longer be redone."""
        after = _packed(decision)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            row = self._database.execute("SELECT decision FROM decisions WHERE path = ?", (path,)).fetchone()
            self._database.execute("DELETE FROM steps WHERE undone")
            self._database.execute(
                "INSERT INTO steps (path, before, after) VALUES (?, ?, ?)", (path, row and row[0], after)
            )
            self._put(path, after)

    def undo(self) -> str | None:
        """Take the last step back; gives its path, or None when there is no step."""
        return self._step("SELECT number, path, before FROM steps WHERE NOT undone ORDER BY number DESC", 1)

    def redo(self) -> str | None:
        """Take the step again that was taken back last."""
        return self._step("SELECT number, path, after FROM steps WHERE undone ORDER BY number", 0)

    def steps(self) -> tuple[bool, bool]:
        """Whether there is something to undo, and to redo."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM steps WHERE NOT undone), EXISTS (SELECT 1 FROM steps WHERE undone)"
        )
        undo, redo = self._database.execute(query).fetchone()
        return bool(undo), bool(redo)

    def _step(self, query: str, undone: int) -> str | None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            row = self._database.execute(f"{query} LIMIT 1").fetchone()
            if row is None:
                return None
            number, path, packed = row
            self._database.execute("UPDATE steps SET undone = ? WHERE number = ?", (undone, number))
            self._put(path, packed)
            return str(path)

    def _put(self, path: str, packed: bytes | None) -> None:
        if packed is None:
            self._database.execute("DELETE FROM decisions WHERE path = ?", (path,))
        else:
            self._database.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?)", (path, packed))


def _packed(decision: Decision) -> bytes:
    content = {**vars(decision), "objects": [vars(one) for one in decision.objects]}
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode())


def _unpacked(packed: bytes) -> Decision:
    content: dict[str, Any] = json.loads(zlib.decompress(packed))
    content["phrases"] = tuple(content["phrases"])
    content["objects"] = tuple(Object(**{**one, "bbox": tuple(one["bbox"])}) for one in content["objects"])
    return Decision(**content)
