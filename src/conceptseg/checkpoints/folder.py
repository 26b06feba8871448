"""Our own model folder: `config.json`, `model.safetensors`, `tokenizer.json`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

FORMAT = "conceptseg"
FORMAT_VERSION = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json")


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
    """
    folder = Path(folder)
    state = {name: _on_disk(value, dtype) for name, value in detector.state_dict().items()}
    with replacing(folder / "model.safetensors") as path:
        save_file(state, path, metadata={"format": "pt"})
    with replacing(folder / "tokenizer.json") as path:
        tokenizer.save(path)
    values = {"format": FORMAT, "version": FORMAT_VERSION, **config.to_dict()}
    write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


def load_model_folder(folder: str | Path) -> tuple[Detector, Tokenizer, ModelConfig]:
    """Read a model folder; weights come as float32 on the CPU, the detector in eval mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights do not fit the config.
    """
    folder = Path(folder)
    for name in FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no model folder: it has no {name} (needs {', '.join(FILES)})")
    config = read_config(folder / "config.json")
    tokenizer = Tokenizer.load(folder / "tokenizer.json", config.architecture.text.context_length)
    if tokenizer.vocab_size > config.architecture.text.vocab_size:
        raise CheckpointError(
            f"{folder}/tokenizer.json has {tokenizer.vocab_size} tokens, the text encoder knows "
            f"{config.architecture.text.vocab_size}"
        )
    try:
        state = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read {folder}/model.safetensors: {error}; is the file complete?"
        ) from error
    # Built without memory, then given the tensors that were read: no time goes into random weights.
    with torch.device("meta"):
        detector = build_detector(config.architecture)
    assign_weights(detector, state, str(folder))
    return detector.eval(), tokenizer, config


def read_config(path: Path) -> ModelConfig:
    """Read and check a `config.json` of ours."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise CheckpointError(f'{path} is no conceptseg config: it lacks "format": "{FORMAT}"')
    version = values.pop("version", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has version {version}; this conceptseg reads version {FORMAT_VERSION}")
    try:
        return ModelConfig.from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def assign_weights(detector: Detector, state: dict[str, Tensor], source: str) -> None:
    """Put tensors into a detector, strictly; float32 ones are taken over, not copied.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; names the first few.
    """
    wanted = detector.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    if missing or unexpected:
        parts = [_first_few("missing", missing), _first_few("unexpected", unexpected)]
        raise CheckpointError(
            f"the weights of {source} do not fit its config: {'; '.join(p for p in parts if p)}"
        )
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            shape, expected = tuple(value.shape), tuple(wanted[name].shape)
            raise CheckpointError(f"{source}: {name} has shape {shape}, the config asks for {expected}")
    detector.load_state_dict(
        {n: v.float() if v.is_floating_point() else v for n, v in state.items()}, assign=True
    )
    for parameter in detector.parameters():
        parameter.requires_grad_(True)


def _on_disk(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _first_few(what: str, names: list[str], count: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{len(names)} {what} ({', '.join(names[:count])}{more})"
