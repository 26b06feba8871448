"""Our own model folder: `config.json`, `model.safetensors`, `tokenizer.json`; and `README.md` to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.checkpoint import Checkpoint, Part, assign, build_empty, check_fit
from conceptseg.checkpoints.config_file import CONFIG, MODEL_FORMAT, read_config, write_config
from conceptseg.checkpoints.key_table import Piece, rename
from conceptseg.checkpoints.model_card import write_card
from conceptseg.checkpoints.report import KeyReport, group
from conceptseg.checkpoints.safetensors_file import open_safetensors
from conceptseg.checkpoints.text_context import with_context
from conceptseg.checkpoints.weights import Weights
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig
from conceptseg.models.cpu.rounding import ROUNDED, is_rounded
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

FILES = (CONFIG, "model.safetensors", "tokenizer.json")
UNUSED_FILE = "unused.safetensors"  # what only the way back to another layout needs


def save_model_folder(
    folder: str | Path,
    detector: Detector,
    tokenizer: Tokenizer,
    config: ModelConfig,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model so that `cs.load(folder)` gives it back.

    Args:
        folder: made when missing; files in it are replaced, each in one step.
        detector: weights are written from wherever they are.
        tokenizer: written as `tokenizer.json`.
        config: written as `config.json`.
        dtype: floating-point type on disk (bfloat16 halves the file); None keeps each tensor's own.

    Raises:
        CheckpointError: the weights were rounded when they were loaded, and would be lost for good.
    """
    if dtype != ROUNDED and is_rounded(detector):
        raise CheckpointError(
            f"this model was loaded in bfloat16, and its weights are no longer what its file holds; to write "
            f"{folder}, load it with dtype='float32', or write it in bfloat16"
        )
    folder = Path(folder)
    state = {name: _on_disk(value, dtype) for name, value in detector.state_dict().items()}
    with replacing(folder / "model.safetensors") as path:
        save_file(state, path, metadata={"format": "pt"})
    with replacing(folder / "tokenizer.json") as path:
        tokenizer.save(path)
    write_config(folder, config)
    write_card(folder, config)


def load_model_folder(folder: str | Path) -> tuple[Detector, Tokenizer, ModelConfig]:
    """Read a model folder; weights come as float32 on the CPU, the detector in eval mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights do not fit the config.
    """
    checkpoint = open_model_folder(Path(folder))
    return checkpoint.load(), checkpoint.tokenizer(), checkpoint.config


def open_model_folder(folder: Path, text_context: int | None = None) -> Checkpoint:
    """Check a model folder and read its config; its weights are read when they are asked for.

    Args:
        folder: of the model.
        text_context: tokens that its MobileCLIP text encoder reads; None: what the config says.

    Raises:
        CheckpointError: as `load_model_folder`.
        OptionError: its text encoder cannot read so many tokens.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no model folder: it has no {name} (needs {', '.join(FILES)})")
    config, _ = read_config(folder)
    if text_context is not None:
        architecture = with_context(config.architecture, text_context, str(folder))
        config = dataclasses.replace(config, architecture=architecture)
    weights = open_safetensors(folder / "model.safetensors")
    unused = open_safetensors(folder / UNUSED_FILE) if (folder / UNUSED_FILE).is_file() else Weights({})
    try:
        detector = build_empty(config.architecture)
    except ConfigError as error:  # parts that do not go together
        raise CheckpointError(f"{folder / FILES[0]}: {error}") from error
    check_fit(
        {name: tensor.shape for name, tensor in detector.state_dict().items()},
        {name: tensor.shape for name, tensor in weights.items()},
        f"the weights of {folder} do not fit its config",
    )
    return Checkpoint(
        source=str(folder),
        config=config,
        report=KeyReport(
            layout="conceptseg model folder",
            read=group("network", weights.values()),
            carried=group("not used, kept for the way back", unused.values()) if unused else None,
        ),
        parts=[Part(weights, MODEL_FORMAT, [Piece(name, rename(name, name), (name,)) for name in weights])],
        carried=lambda: dict(unused),
        tokenizer_path=folder,
        detector=detector,
    )


def assign_weights(detector: Detector, state: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into a detector, strictly; float32 ones are taken over, not copied.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; names the first few.
    """
    check_fit(
        {name: tensor.shape for name, tensor in detector.state_dict().items()},
        {name: tensor.shape for name, tensor in state.items()},
        f"the weights of {source} do not fit its config",
    )
    assign(detector, {n: v.float() if v.is_floating_point() else v for n, v in state.items()})


def _on_disk(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value
