"""Which layout of weights lies at a path, and who reads it.

Every layout is a row of `LAYOUTS`; the first that recognises the path loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from conceptseg.checkpoints.folder import FILES, load_model_folder
from conceptseg.errors import CheckpointError
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

LoadedModel: TypeAlias = "tuple[Detector, Tokenizer, ModelConfig]"


@dataclass(frozen=True)
class Layout:
    """One way in which models are stored."""

    name: str  # for messages
    recognises: Callable[[Path], bool]
    load: Callable[[Path], LoadedModel]


def _is_model_folder(path: Path) -> bool:
    """Any of our files makes it ours to read or to complain about, but a foreign config does not."""
    if not path.is_dir() or not any((path / name).is_file() for name in FILES):
        return False
    config = path / "config.json"
    return not config.is_file() or b'"format": "conceptseg"' in config.read_bytes()


LAYOUTS: list[Layout] = [
    Layout(f"conceptseg model folder ({', '.join(FILES)})", _is_model_folder, load_model_folder),
]


def load_checkpoint(path: Path) -> LoadedModel:
    """Read a model from a file or folder in any known layout; weights as float32 on the CPU.

    Raises:
        CheckpointError: no known layout, or the weights are damaged or do not fit.
    """
    for layout in LAYOUTS:
        if layout.recognises(path):
            return layout.load(path)
    known = "; ".join(layout.name for layout in LAYOUTS)
    raise CheckpointError(f"{path} is in no layout that this version reads. It reads: {known}")
