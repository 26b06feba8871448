"""What was asked, and how far every image has come: one SQLite file, which a killed process cannot spoil.

Answers are in it until and after they are written out, so files follow from the ledger alone: another format
costs no second look at an image, and a labelling that was interrupted ends in the files of one that was not.
One process writes; `Ledger.open` holds a lock that ends with the process, however it ends.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from filelock import FileLock, Timeout

from conceptseg.errors import DataError, OptionError
from conceptseg.labelling.settings import differences
from conceptseg.labelling.sources import ImageSource, file_digest

LEDGER = "ledger.sqlite"
LOCK = "ledger.lock"
FORM = 1  # of the tables below
ATTEMPTS = 3  # of an image that fails, in one run

State: TypeAlias = Literal["left", "done", "failed", "skipped"]

TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY,            -- 1, 2, ... in the order in which images were first named
    path TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,         -- in COCO files
    stem TEXT NOT NULL UNIQUE COLLATE NOCASE, -- of files of its own
    state TEXT NOT NULL DEFAULT 'left',
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    digest TEXT,                       -- SHA-256 of the file
    size INTEGER, changed INTEGER,     -- of the file, when it was read: bytes, and nanoseconds
    objects INTEGER NOT NULL DEFAULT 0,
    answer BLOB                        -- COCO content of this image alone, deflated JSON
);
CREATE INDEX images_by_state ON images (state, id);
CREATE TABLE counts (image INTEGER, concept INTEGER, objects INTEGER NOT NULL, PRIMARY KEY (image, concept));
CREATE TABLE written (shard INTEGER, format TEXT, PRIMARY KEY (shard, format));
CREATE TABLE files (path TEXT, digest TEXT, PRIMARY KEY (path, digest));
"""
LABELLED = "SELECT id, path, name, stem, digest, answer FROM images WHERE answer IS NOT NULL"


@dataclass(frozen=True)
class Task:
    """An image that is to be answered."""

    id: int
    path: str
    name: str


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    id: int
    state: Literal["done", "failed", "skipped"]
    error: str | None = None
    digest: str | None = None
    size: int | None = None
    changed: int | None = None
    answer: dict[str, Any] | None = None  # COCO content of this image alone; of `done`


@dataclass(frozen=True)
class Labelled:
    """An answered image."""

    id: int
    path: str
    name: str
    stem: str
    digest: str  # SHA-256 of the file that was answered
    answer: dict[str, Any]


class Ledger:
    """Made by `Ledger.open`; to be closed."""

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: FileLock) -> None:
        self.folder = folder
        self._database = database
        self._lock = lock
        self.fingerprint: dict[str, Any] = self._fact("fingerprint")
        self.model: dict[str, Any] = self._fact("model", {})  # how the model was loaded last
        self.shard_size = int(self._fact("shard size"))

    @classmethod
    def open(
        cls, folder: Path, fingerprint: dict[str, Any], shard_size: int, model: dict[str, Any]
    ) -> Ledger:
        """Go on with the labelling in a folder, or begin one.

        Args:
            fingerprint: of the settings.
            shard_size: images to a file of the formats that put many into one.
            model: how the model is loaded; kept for those who look at the labels later.

        Raises:
            OptionError: another process works in this folder, or what lies there was made with other
                settings.
            DataError: the ledger is damaged, or of another version.
        """
        facts = {"fingerprint": fingerprint, "shard size": shard_size}
        return cls._opened(folder, lambda database: _begin(database, facts, model))

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """What lies in a folder, whatever settings it was made with.

        Raises:
            OptionError: no labels are there, or another process works in this folder.
            DataError: the ledger is damaged, or of another version.
        """
        if not has_ledger(folder):
            raise OptionError(f"{folder} holds no labels; `conceptseg label` writes them")
        return cls._opened(folder, _check_form)

    @classmethod
    def _opened(cls, folder: Path, begin: Callable[[sqlite3.Connection], None]) -> Ledger:
        lock = lock_folder(folder)
        try:
            # A server may use it in another thread than that it was opened in; never in two at once.
            database = sqlite3.connect(folder / LEDGER, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                begin(database)
                return cls(folder, database, lock)
            except BaseException:
                database.close()
                raise
        except sqlite3.DatabaseError as error:
            lock.release()
            raise DataError(
                f"{folder / LEDGER} cannot be read: {error}; give another --out, or --restart to start anew"
            ) from error
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        self._database.close()
        self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def register(self, sources: Iterable[ImageSource]) -> int:
        """Take up the images that are not in the ledger yet; gives how many these are.

        Names are made unique here: where two images share one, the later is called by its whole path.
        """
        database, new = self._database, 0
        with closing(database.cursor()) as cursor, _transaction(database):
            for source in sources:
                if _there(cursor, "path", source.path):
                    continue
                name = source.path if _there(cursor, "name", source.name) else source.name
                values = (source.path, Path(name).as_posix(), _free_stem(cursor, source.name))
                cursor.execute("INSERT INTO images (path, name, stem) VALUES (?, ?, ?)", values)
                new += 1
        return new

    def look_again(self) -> int:
        """Have images answered that failed, or whose file is not the one that was read; gives how many.

        An image whose file is gone keeps its answer.
        """
        rows = self._database.execute(
            "SELECT id, path, digest, size, changed FROM images WHERE state IN ('done', 'skipped')"
        )
        again, same = [], []
        for number, path, digest, size, changed in rows:
            try:
                status = Path(path).stat()
                if (status.st_size, status.st_mtime_ns) == (size, changed):
                    continue
                if file_digest(path) == digest:
                    same.append((status.st_size, status.st_mtime_ns, number))
                else:
                    again.append((number,))
            except OSError:
                continue
        with _transaction(self._database):
            self._database.executemany("UPDATE images SET size = ?, changed = ? WHERE id = ?", same)
            self._database.executemany(
                "UPDATE images SET state = 'left', attempts = 0, error = NULL WHERE id = ?", again
            )
            failed = self._database.execute(
                "UPDATE images SET state = 'left', attempts = 0, error = NULL WHERE state = 'failed'"
            )
        return len(again) + failed.rowcount

    def batches(self, size: int) -> Iterator[list[Task]]:
        """The images that are left: first in batches, then those that failed, each alone.

        A batch is always of the same images, whatever was interrupted before: numbers may depend in their
        last digits on what an image shares its batch with.
        """
        (last,) = self._database.execute("SELECT COALESCE(MAX(id), 0) FROM images").fetchone()
        first = 0
        while first < last:
            row = self._database.execute(
                "SELECT MIN(id) FROM images WHERE state = 'left' AND attempts = 0 AND id > ?", (first,)
            ).fetchone()
            if row[0] is None:
                break
            number = (row[0] - 1) // size
            first = (number + 1) * size
            yield self._tasks("attempts = 0 AND id > ? AND id <= ?", (number * size, first))

    def failed_once(self) -> list[Task]:
        """Images to be tried again, alone."""
        return self._tasks("attempts > 0", ())

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Keep what became of some images, all or nothing. A failure counts; after three it is one."""
        database = self._database
        with _transaction(database):
            for outcome in outcomes:
                counts = _objects_of(outcome.answer)
                database.execute(
                    "UPDATE images SET attempts = attempts + 1, error = ?, "
                    "digest = ?, size = ?, changed = ?, objects = ?, answer = ?, "
                    "state = CASE WHEN ? <> 'failed' THEN ? "
                    "WHEN attempts + 1 >= ? THEN 'failed' ELSE 'left' END WHERE id = ?",
                    (
                        outcome.error,
                        outcome.digest,
                        outcome.size,
                        outcome.changed,
                        sum(counts.values()),
                        None if outcome.answer is None else _packed(outcome.answer),
                        outcome.state,
                        outcome.state,
                        ATTEMPTS,
                        outcome.id,
                    ),
                )
                database.execute("DELETE FROM counts WHERE image = ?", (outcome.id,))
                rows = [(outcome.id, concept, objects) for concept, objects in counts.items()]
                database.executemany("INSERT INTO counts VALUES (?, ?, ?)", rows)
                database.execute("DELETE FROM written WHERE shard = ?", (self.shard_of(outcome.id),))

    def states(self) -> dict[str, int]:
        """How many images are in each state; all four are named."""
        found = dict(self._database.execute("SELECT state, COUNT(*) FROM images GROUP BY state"))
        return {state: found.get(state, 0) for state in ("done", "left", "failed", "skipped")}

    def objects_per_concept(self) -> dict[int, tuple[int, int]]:
        """Of each concept that was found: objects, and images that show some."""
        rows = self._database.execute("SELECT concept, SUM(objects), COUNT(*) FROM counts GROUP BY concept")
        return {concept: (objects, images) for concept, objects, images in rows}

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """State, path and error of the images that have no answer though they were tried."""
        yield from self._database.execute(
            "SELECT state, path, error FROM images WHERE state IN ('failed', 'skipped') ORDER BY id"
        )

    def shard_of(self, image: int) -> int:
        return (image - 1) // self.shard_size

    def complete(self, shard: int) -> bool:
        """Whether nothing is left to answer in a shard that is full."""
        count, left = self._database.execute(
            "SELECT COUNT(*), COALESCE(SUM(state = 'left'), 0) FROM images WHERE id BETWEEN ? AND ?",
            self._range(shard),
        ).fetchone()
        return bool(count == self.shard_size and left == 0)

    def shards_to_write(self, form: str) -> list[int]:
        """Shards with answers that the files of a format do not show yet."""
        rows = self._database.execute(
            "SELECT DISTINCT (id - 1) / ? AS shard FROM images WHERE state = 'done' "
            "AND shard NOT IN (SELECT shard FROM written WHERE format = ?) ORDER BY shard",
            (self.shard_size, form),
        )
        return [shard for (shard,) in rows]

    def labelled(self, shard: int) -> list[Labelled]:
        """The answered images of a shard, in order."""
        rows = self._database.execute(f"{LABELLED} AND id BETWEEN ? AND ? ORDER BY id", self._range(shard))
        return [_labelled(row) for row in rows]

    def all_labelled(self) -> Iterator[Labelled]:
        """Every answered image, in order."""
        for row in self._database.execute(f"{LABELLED} ORDER BY id"):
            yield _labelled(row)

    def image(self, number: int) -> Labelled:
        """One answered image by its id."""
        return _labelled(self._database.execute(f"{LABELLED} AND id = ?", (number,)).fetchone())

    def spread(self, count: int) -> list[Labelled]:
        """At most so many answered images, evenly spread over all."""
        (total,) = self._database.execute("SELECT COUNT(*) FROM images WHERE answer IS NOT NULL").fetchone()
        wanted = [number * total // count for number in range(count)] if total > count else range(total)
        query = f"{LABELLED} ORDER BY id LIMIT 1 OFFSET ?"
        return [_labelled(self._database.execute(query, (number,)).fetchone()) for number in wanted]

    def mark_written(self, shard: int, form: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO written VALUES (?, ?)", (shard, form))

    def ours(self, path: str, digest: str) -> bool:
        """Whether a file of this content was written here, and not by somebody else or changed since."""
        found = self._database.execute("SELECT 1 FROM files WHERE path = ? AND digest = ?", (path, digest))
        return found.fetchone() is not None

    def will_write(self, digests: dict[str, str]) -> None:
        """To be said before files of these contents are put in place: a killed process may come that far."""
        with _transaction(self._database):
            self._database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?)", digests.items())

    def _fact(self, name: str, otherwise: Any = None) -> Any:
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return otherwise if row is None else json.loads(row[0])

    def _tasks(self, condition: str, values: tuple[int, ...]) -> list[Task]:
        query = f"SELECT id, path, name FROM images WHERE state = 'left' AND {condition} ORDER BY id"
        return [Task(*row) for row in self._database.execute(query, values)]

    def _range(self, shard: int) -> tuple[int, int]:
        return shard * self.shard_size + 1, (shard + 1) * self.shard_size


def lock_folder(folder: Path) -> FileLock:
    """Held until it is released or the process ends.

    Raises:
        OptionError: another process works in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise OptionError(
            f"another process labels into {folder} or reviews it; end that one first"
        ) from error
    return lock


def has_ledger(folder: Path) -> bool:
    return (folder / LEDGER).is_file()


def _begin(database: sqlite3.Connection, facts: dict[str, Any], model: dict[str, Any]) -> None:
    """Make the tables, or compare with what is there."""
    (form,) = database.execute("PRAGMA user_version").fetchone()
    if form == 0:
        database.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {FORM};")
        rows = [(name, json.dumps(value)) for name, value in {**facts, "model": model}.items()]
        database.executemany("INSERT INTO facts VALUES (?, ?)", rows)
        database.execute("COMMIT")
        return
    _check_form(database)
    before = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM facts")}
    changed = list(differences(before["fingerprint"], facts["fingerprint"]))
    if before["shard size"] != facts["shard size"]:
        changed.append(f"shard size was {before['shard size']}, now {facts['shard size']}")
    if changed:
        raise OptionError(
            f"the labels there were made with other settings ({'; '.join(changed)}); give another --out, "
            "or --restart to throw them away and start anew"
        )
    # The same weights may lie elsewhere by now.
    database.execute("INSERT OR REPLACE INTO facts VALUES ('model', ?)", (json.dumps(model),))


def _check_form(database: sqlite3.Connection) -> None:
    (form,) = database.execute("PRAGMA user_version").fetchone()
    if form != FORM:
        raise DataError(f"the labels were made by another version of conceptseg (ledger {form}, not {FORM})")


class _transaction:
    """All of a block, or nothing of it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _there(cursor: sqlite3.Cursor, column: str, value: str) -> bool:
    return cursor.execute(f"SELECT 1 FROM images WHERE {column} = ?", (value,)).fetchone() is not None


def _free_stem(cursor: sqlite3.Cursor, name: str) -> str:
    """The name without its suffix, inside the folder of the labels, and not in use yet."""
    parts = [part for part in PurePosixPath(name).with_suffix("").parts if part not in ("/", "..")]
    stem, copy = "/".join(parts), 1
    free = stem
    while _there(cursor, "stem", free):
        copy += 1
        free = f"{stem}-{copy}"
    return free


def _objects_of(answer: dict[str, Any] | None) -> dict[int, int]:
    """Objects of each concept, by its number."""
    counts: dict[int, int] = {}
    for annotation in answer["annotations"] if answer else ():
        concept = annotation["category_id"] - 1
        counts[concept] = counts.get(concept, 0) + 1
    return counts


def _packed(answer: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(answer, separators=(",", ":")).encode())


def _labelled(row: tuple[int, str, str, str, str, bytes]) -> Labelled:
    return Labelled(*row[:5], answer=json.loads(zlib.decompress(row[5])))
