"""From the names in annotations to files; each folder is listed once, which is faster on a network."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


class ImageFiles:
    """The images of a folder by the names that annotations give them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """The file of this name below the folder; failing that, one of the same last part right in it.

        Tools write names with folders of their own, absolute paths of another machine, or backslashes.
        """
        parts = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
        for candidate in (self.root / parts.as_posix(), self.root / parts.name):
            if candidate.name in self._names(candidate.parent):
                return candidate
        return None

    def _names(self, folder: Path) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(entry.name for entry in folder.iterdir())
            except OSError:  # no such folder, so no such file
                self._listed[folder] = frozenset()
        return self._listed[folder]


def images_in(folder: Path) -> list[Path]:
    """All images below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
