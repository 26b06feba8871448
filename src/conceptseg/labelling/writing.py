"""Files into the folder of the labels: each whole or not at all, and none of somebody else touched.

A file that is not as it was written here (somebody corrected the labels, or it was there before) stays as it
is, and is told of.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conceptseg.choices import LabelFormat
from conceptseg.labelling.ledger import Ledger
from conceptseg.labelling.outputs import FORMATS
from conceptseg.labelling.sources import file_digest

DRAFT = "ledger.draft"


def write_shard(ledger: Ledger, shard: int, form: LabelFormat, names: Sequence[str]) -> list[Path]:
    """Write the answers of one shard in one format.

    Args:
        names: of the concepts.

    Returns:
        Files that were kept as they are, though the labels differ.
    """
    kept = []
    files = FORMATS[form](shard, ledger.labelled(shard), names, ledger.folder)
    for part in _parts(files):
        # Said first: whatever a killed process has put in place is then known to be its own.
        ledger.will_write({name: _digest(content) for name, content in part.items()})
        kept += [ledger.folder / name for name, content in part.items() if not _put(ledger, name, content)]
    ledger.mark_written(shard, form)
    return kept


def _parts(files: Iterator[tuple[str, str | Path]], size: int = 256) -> Iterator[dict[str, str | Path]]:
    part: dict[str, str | Path] = {}
    for name, content in files:
        part[name] = content
        if len(part) == size:
            yield part
            part = {}
    yield part


def _put(ledger: Ledger, name: str, content: str | Path) -> bool:
    """Whether the file is now as it should be."""
    path = ledger.folder / name
    there = digest_of(path)
    if there == _digest(content):
        return True
    if there is not None and not ledger.ours(name, there):
        return False
    with placing(ledger.folder, path) as draft:
        if isinstance(content, str):
            draft.write_text(content, encoding="utf-8")
        else:
            draft.symlink_to(content)
    return True


@contextmanager
def placing(folder: Path, path: Path) -> Iterator[Path]:
    """Write to the yielded path, where nothing is; when the block ends well, it takes the place of `path`.

    There is one draft in a folder of labels, so a killed process leaves one behind, and the next file takes
    its place. It may be a link to an image, through which nothing must be written.
    """
    draft = folder / DRAFT
    draft.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    yield draft
    draft.replace(path)


def digest_of(path: Path) -> str | None:
    """Of the text in a file, or of where a link leads; None when nothing is there."""
    if path.is_symlink():
        return _digest(Path(os.readlink(path)))
    return file_digest(path) if path.exists() else None


def _digest(content: str | Path) -> str:
    text = content if isinstance(content, str) else f"link to {content}"
    return hashlib.sha256(text.encode()).hexdigest()
