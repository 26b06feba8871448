"""Where results go: checked before long work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from conceptseg.errors import OptionError


def check_output_folder(folder: Path, option: str = "--out") -> None:
    """Stop unless `folder` is one that can be written to, or can be made; makes nothing.

    Raises:
        OptionError: it is a file, lies in one, or may not be written to.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OptionError(f"{option} {folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OptionError(f"{option} {folder}: {there} may not be written to; give another folder")
