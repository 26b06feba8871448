"""`config.json`, of whatever program: which format it is in, and what ours hold.

A model folder and an ONNX folder of ours have the same entries, and say in "format" which of the two they
are; that of `transformers` says "model_type".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig

CONFIG = "config.json"
MODEL_FORMAT, ONNX_FORMAT = "conceptseg", "conceptseg-onnx"
FORMAT_VERSION = 1


def read_any_config(folder: Path, name: str = CONFIG) -> dict[str, Any] | None:
    """The `config.json` in a folder, of any program, or another such file; None when there is none.

    Raises:
        CheckpointError: it cannot be read, or is no JSON object.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no config: it holds a {type(values).__name__}")
    return values


def is_onnx_folder(path: Path) -> bool:
    """Whether `cs.load` is to run this through ONNX Runtime."""
    try:
        return (read_any_config(path) or {}).get("format") == ONNX_FORMAT
    except CheckpointError:
        return False  # the reader of model folders says what is wrong with it


def write_config(
    folder: Path, config: ModelConfig, format: str = MODEL_FORMAT, more: dict[str, Any] | None = None
) -> None:
    """Write a `config.json` of ours.

    Args:
        folder: that it is written into.
        config: what it says of the model.
        format: of the folder.
        more: entries that this format has beside those of every model.
    """
    values = {"format": format, "version": FORMAT_VERSION, **(more or {}), **config.to_dict()}
    write_text(folder / CONFIG, json.dumps(values, indent=2) + "\n")


def read_config(
    folder: Path, format: str = MODEL_FORMAT, more: tuple[str, ...] = ()
) -> tuple[ModelConfig, dict[str, Any]]:
    """Read and check a `config.json` of ours.

    Args:
        folder: that it lies in.
        format: that it must have.
        more: entries that this format has beside those of every model.

    Returns:
        The config, and those entries, unchecked; None for one that is not there.

    Raises:
        CheckpointError: it is missing, damaged, of another format or version, or says what cannot be.
    """
    path, values = folder / CONFIG, read_any_config(folder)
    if values is None or values.pop("format", None) != format:
        raise CheckpointError(f'{path} is no conceptseg config: it lacks "format": "{format}"')
    version = values.pop("version", None)
    if version != FORMAT_VERSION:
        hint = "; export the model again" if format == ONNX_FORMAT else ""
        raise CheckpointError(
            f"{path} has version {version}; this conceptseg reads version {FORMAT_VERSION}{hint}"
        )
    beside = {name: values.pop(name, None) for name in more}
    try:
        return ModelConfig.from_dict(values), beside
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
