"""From what the user named to image files, and from those to the names of their overlays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conceptseg.data.formats.image_files import SUFFIXES
from conceptseg.errors import ImageError

OVERLAY = ".overlay.png"


def find_images(named: Sequence[Path]) -> list[Path]:
    """Replace each folder by the images directly in it, sorted by name; files stay, whatever their suffix.

    Overlays of an earlier run in such a folder are no images to segment.

    Raises:
        ImageError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise ImageError(f"{path}: the folder holds no image ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ImageError(f"{path}: no such file")
    return list(dict.fromkeys(found))  # named twice, segmented once


def image_names(images: Sequence[Path]) -> list[str]:
    """How results call the images: by bare file name, or by path when two share one."""
    bare = [image.name for image in images]
    return bare if len(set(bare)) == len(bare) else [image.as_posix() for image in images]


def overlay_names(images: Sequence[Path]) -> list[str]:
    """One file name per image, all different also where file names differ in folder or suffix or case only.

    They end in `.overlay.png`, so that `--out` may be the folder of the images without touching one.
    """
    names: list[str] = []
    taken: set[str] = set()
    for image in images:
        name, copy = image.stem + OVERLAY, 1
        while name.lower() in taken:
            copy += 1
            name = f"{image.stem}-{copy}{OVERLAY}"
        taken.add(name.lower())
        names.append(name)
    return names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.endswith(OVERLAY) and path.is_file()
