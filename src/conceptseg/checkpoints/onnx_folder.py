"""An ONNX folder: four graphs, `config.json` and `tokenizer.json`.

Written by `conceptseg export onnx`, read by `cs.load`. The config holds what that of a model folder holds,
and under "onnx" what the graphs were made for. The names of inputs and outputs are in docs/export.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.config_file import CONFIG, ONNX_FORMAT, read_config, write_config
from conceptseg.choices import Quantize
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig, PreprocessingConfig, config_from_dict

GRAPHS = ("vision", "text", "exemplar", "detector")
FILES = (CONFIG, "tokenizer.json", *(f"{graph}.onnx" for graph in GRAPHS))


@dataclass(frozen=True)
class OnnxInfo:
    """What the graphs were exported for."""

    resolution: int  # pixels per side; other sizes need another export
    opset: int
    fingerprint: str  # of the model that was exported: its exemplars can be read, and it reads theirs
    quantize: Quantize = "none"
    checked: dict[str, Any] = field(default_factory=dict)  # graph -> output -> largest difference from torch

    def __post_init__(self) -> None:
        PreprocessingConfig(self.resolution)  # which knows what a resolution may be


def write_onnx_config(folder: Path, config: ModelConfig, info: OnnxInfo) -> None:
    """Write the `config.json` of an ONNX folder."""
    write_config(folder, config, ONNX_FORMAT, {"onnx": asdict(info)})


def read_onnx_config(folder: Path) -> tuple[ModelConfig, OnnxInfo]:
    """Read and check the `config.json` of an ONNX folder, and that its files are there.

    Raises:
        CheckpointError: a file is missing, or the config is damaged or of another version.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no ONNX folder: it has no {name} (needs {', '.join(FILES)})")
    config, beside = read_config(folder, ONNX_FORMAT, ("onnx",))
    try:
        return config, config_from_dict(OnnxInfo, beside["onnx"], "onnx")
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
