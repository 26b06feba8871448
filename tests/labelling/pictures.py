"""Small pictures to label, and what a labelling left in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from conceptseg.choices import LabelFormat
from conceptseg.labelling.settings import Concept, LabelSettings, ModelChoice
from conceptseg.labelling.writing import DRAFT

FORMATS: tuple[LabelFormat, ...] = ("coco", "yolo", "labelme", "label-studio")


def write_pictures(folder: Path, count: int = 10) -> Path:
    """`count` pictures of 48 x 32, every third in a folder of its own."""
    for number in range(count):
        path = folder / ("deep/er" if number % 3 == 0 else "") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 32)).save(path)
    return folder


def two_phrases(model: Path, threshold: float = 0.1) -> LabelSettings:
    return LabelSettings(
        (Concept("red circle", "red circle", threshold), Concept("coin", "coin", threshold)),
        ModelChoice(str(model)),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """What is there but for the ledger: content of files, and where links lead."""
    return {
        path.relative_to(folder).as_posix(): (
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in folder.rglob("*")
        if not path.is_dir() and (path.name == DRAFT or not path.name.startswith("ledger."))
    }
