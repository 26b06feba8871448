"""An ONNX folder: four graphs, `config.json` and `tokenizer.json`.

Written by `conceptseg export onnx`, read by `cs.load`. The config holds what that of a model folder holds,
and under "onnx" what the graphs were made for. The names of inputs and outputs are in docs/export.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig, PreprocessingConfig, config_from_dict

FORMAT = "conceptseg-onnx"
FORMAT_VERSION = 1
GRAPHS = ("vision", "text", "exemplar", "detector")
FILES = ("config.json", "tokenizer.json", *(f"{graph}.onnx" for graph in GRAPHS))


@dataclass(frozen=True)
class OnnxInfo:
    """What the graphs were exported for."""

    resolution: int  # pixels per side; other sizes need another export
    opset: int
    fingerprint: str  # of the model that was exported: its exemplars can be read, and it reads theirs
    quantize: Literal["none", "int8"] = "none"
    checked: dict[str, Any] = field(default_factory=dict)  # graph -> output -> largest difference from torch

    def __post_init__(self) -> None:
        PreprocessingConfig(self.resolution)  # which knows what a resolution may be


def is_onnx_folder(path: Path) -> bool:
    """Whether `cs.load` is to run this through ONNX Runtime."""
    config = path / "config.json"
    if not config.is_file():
        return False
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # the reader of model folders says what is wrong with it
    return isinstance(values, dict) and values.get("format") == FORMAT


def write_onnx_config(folder: Path, config: ModelConfig, info: OnnxInfo) -> None:
    """Write the `config.json` of an ONNX folder."""
    values = {"format": FORMAT, "version": FORMAT_VERSION, "onnx": asdict(info), **config.to_dict()}
    write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


def read_onnx_config(folder: Path) -> tuple[ModelConfig, OnnxInfo]:
    """Read and check the `config.json` of an ONNX folder, and that its files are there.

    Raises:
        CheckpointError: a file is missing, or the config is damaged or of another version.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no ONNX folder: it has no {name} (needs {', '.join(FILES)})")
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    version = values.pop("version", None)
    if values.pop("format", None) != FORMAT or version != FORMAT_VERSION:
        raise CheckpointError(
            f'{path} is no "{FORMAT}" config of version {FORMAT_VERSION}; export the model again'
        )
    try:
        info = config_from_dict(OnnxInfo, values.pop("onnx", None), "onnx")
        return ModelConfig.from_dict(values), info
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
