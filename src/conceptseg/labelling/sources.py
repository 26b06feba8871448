"""What is to be labelled: folders, patterns, manifests and files -> images, one at a time, in a fixed order.

Nothing is opened and no list is kept, so that a million images cost no memory.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conceptseg.data.formats.image_files import SUFFIXES
from conceptseg.errors import ImageError, OptionError

MANIFEST_SUFFIX = ".txt"
WILD = frozenset("*?[")


@dataclass(frozen=True)
class ImageSource:
    """One image to label."""

    path: str  # absolute
    name: str  # as seen from the folder or the manifest that named it, with slashes


def find_sources(named: Iterable[str | os.PathLike[str]], leave_out: Path) -> Iterator[ImageSource]:
    """The images below folders, those that patterns match, those that manifests list, and single files.

    Args:
        named: folders, patterns (`*`, `?`, `[...]`, and `**` for folders at any depth), manifests (`.txt`: a
            path on each line, as seen from the manifest; empty lines and lines with `#` are passed over), and
            image files, whatever their suffix.
        leave_out: the folder of the labels; pictures in it are none to label.

    Returns:
        Iterator; folders are walked in the order of names. An image that is named twice comes twice.

    Raises:
        ImageError: nothing is there under a name, or no image in it; when the iterator comes to it.
    """
    for name in named:
        text = os.fspath(name)
        path = Path(text)
        if path.is_dir():
            found = _below(path, leave_out)
        elif path.is_file() and path.suffix.lower() == MANIFEST_SUFFIX:
            found = _listed(path)
        elif path.is_file():
            found = iter([ImageSource(os.path.abspath(path), path.name)])
        elif WILD & set(text):
            found = _matching(text, leave_out)
        else:
            raise ImageError(f"{text}: no such file, folder or pattern")
        empty = True
        for source in found:
            empty = False
            yield source
        if empty:
            raise ImageError(f"{text}: no image there ({', '.join(sorted(SUFFIXES))})")


def check_sources(named: Sequence[str | os.PathLike[str]], leave_out: Path) -> None:
    """Stop unless each of them leads to an image; raises what `find_sources` raises.

    Raises:
        OptionError: nothing was named.
    """
    if not named:
        raise OptionError("there is nothing to label; name folders, patterns, manifests or image files")
    for name in named:
        next(find_sources([name], leave_out))


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of what is in a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _below(folder: Path, leave_out: Path) -> Iterator[ImageSource]:
    """Hidden folders and files are passed over."""
    root, omitted = os.path.abspath(folder), os.path.abspath(leave_out)
    if root == omitted:
        raise OptionError(
            f"{folder} is also where the labels go; give another --out, such as {folder}-labels"
        )
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and os.path.join(directory, name) != omitted
        )
        for name in sorted(files):
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                path = os.path.join(directory, name)
                yield ImageSource(path, Path(os.path.relpath(path, root)).as_posix())


def _matching(pattern: str, leave_out: Path) -> Iterator[ImageSource]:
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if WILD & set(part))
    root, omitted = os.path.abspath(Path(*parts[:fixed])), os.path.abspath(leave_out) + os.sep
    for match in sorted(glob.iglob(pattern, recursive=True)):
        path = os.path.abspath(match)
        if os.path.splitext(path)[1].lower() in SUFFIXES and not path.startswith(omitted):
            yield ImageSource(path, Path(os.path.relpath(path, root)).as_posix())


def _listed(manifest: Path) -> Iterator[ImageSource]:
    with manifest.open(encoding="utf-8") as lines:
        try:
            for line in lines:
                written = line.strip()
                if written and not written.startswith("#"):
                    # A file that is missing is one image that fails, not the end of the work.
                    path = os.path.abspath(manifest.parent / written)
                    yield ImageSource(path, Path(os.path.normpath(written)).as_posix())
        except UnicodeDecodeError as error:
            raise ImageError(f"{manifest} is no list of paths: {error}") from error
