"""A checkpoint of any layout -> a folder in another one, every tensor with the same bits.

Nothing is rounded or run: tensors change names, and where the layouts ask for it they are cut apart, joined
or transposed. A way there and back gives the same keys and values again; see `Checkpoint.carried`. Positions
behind the last token that a text encoder reads are the exception: the Hugging Face layout has no other way to
say how many it reads than the length of their table.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.architecture import Hints, read_architecture
from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.checkpoints.checkpoint import Checkpoint, build_empty
from conceptseg.checkpoints.config_file import write_config
from conceptseg.checkpoints.efficientsam3 import efficientsam3_table
from conceptseg.checkpoints.folder import UNUSED_FILE
from conceptseg.checkpoints.huggingface import HUGGING_FACE, LITE_TEXT, POINTS
from conceptseg.checkpoints.huggingface_config import config_from_huggingface, config_to_huggingface
from conceptseg.checkpoints.huggingface_folder import huggingface_files
from conceptseg.checkpoints.key_table import UNUSED, KeyTable, first_few
from conceptseg.checkpoints.mobileclip import POOLED
from conceptseg.checkpoints.model_card import write_card
from conceptseg.checkpoints.official import DETECTOR, OFFICIAL, ROTARY, rotary_tables
from conceptseg.checkpoints.text_context import (
    context_by_name,
    name_with_context,
    with_rows,
    without_spare_positions,
)
from conceptseg.choices import WeightFormat, check_choice
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import (
    DetectorConfig,
    MobileClipTextConfig,
    ModelConfig,
    StudentConfig,
    ViTConfig,
)
from conceptseg.models.text.tokenizer import Tokenizer

OFFICIAL_FILE = "model.pt"
POSITIONS = "text_encoder.position_embedding"
POOLED_WIDTH = 512  # of a whole phrase, in CLIP
NESTED = "model"  # where EfficientSAM3 keeps the weights in its files
# What the official layouts do not say, and need not: it matters in training alone.
TRAINING_ONLY = {"dropout", "drop_path", "one_to_many", "ffn_float32", "reference_grid", "embedding_std"}


@dataclass(frozen=True)
class Conversion:
    """What `convert` did."""

    files: list[Path]
    lost: list[str] = field(default_factory=list)  # our names of what the layout has no place for


def convert(checkpoint: Checkpoint, folder: Path, to: WeightFormat = "own") -> Conversion:
    """Write a checkpoint in another layout.

    Args:
        checkpoint: opened for this; its tensors are read once.
        folder: made when missing; files of the same names are replaced.
        to: "own" (a model folder), "hf" (for `transformers`), "official" (for the original code).

    Raises:
        CheckpointError: the other layout has no place for this network; or there is no tokenizer.
        OptionError: an unknown layout.
    """
    check_choice("format", to, WeightFormat)
    if to != "own":
        check_target(checkpoint.config, to)
    tokenizer = checkpoint.tokenizer()  # before gigabytes are read: it may be missing
    unused = checkpoint.carried()
    state = checkpoint.state()
    folder.mkdir(parents=True, exist_ok=True)
    if to == "own":
        done = _write_own(folder, state, unused, checkpoint.config)
    elif to == "hf":
        done = _write_huggingface(folder, state, unused, checkpoint, tokenizer)
    else:
        done = _write_official(folder, state, unused, checkpoint)
    with replacing(folder / "tokenizer.json") as path:
        tokenizer.save(path)
    lost = list(done.lost)
    if to != "own" and checkpoint.config.presence_mode != "multiply":
        lost.append(f"presence_mode {checkpoint.config.presence_mode!r}")
    if to != "own" and checkpoint.config.dedupe != "none":
        lost.append(f"dedupe {checkpoint.config.dedupe!r}")
    if to != "own" and checkpoint.config.mask_margin is not None:
        lost.append(f"mask_margin {checkpoint.config.mask_margin:g}")
    return Conversion([*done.files, folder / "tokenizer.json"], lost)


def check_target(config: ModelConfig, to: WeightFormat) -> None:
    """Stop unless the other layout can say all that there is to say about a network.

    Raises:
        CheckpointError: it cannot; names what.
    """
    architecture = with_rows(config.architecture)
    if architecture.exemplar.kind != "roi":
        raise CheckpointError(
            f"foreign layouts have no exemplar encoder of kind {architecture.exemplar.kind!r}, "
            "only the released one, 'roi'; own does"
        )
    try:
        if to == "hf":
            architecture = without_spare_positions(architecture)
            there = config_to_huggingface(architecture, config.preprocessing.resolution)
            again = config_from_huggingface(there)
        else:
            again = _through_official(architecture)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    lost = _differences(architecture.to_dict(), again.to_dict())
    if lost:
        raise CheckpointError(
            f"the {'Hugging Face' if to == 'hf' else 'official'} layout cannot hold this network: "
            f"it would come back with another {first_few(lost)}"
        )


def _through_official(config: DetectorConfig) -> DetectorConfig:
    """What would be recognised of this network in a file of the official layout."""
    vision, text = config.vision, config.text
    if not isinstance(vision, (ViTConfig, StudentConfig)):
        raise ConfigError(f"the official layout has no vision encoder of kind {vision.kind!r}")
    shapes = {name: tensor.shape for name, tensor in build_empty(config).state_dict().items()}
    hints = Hints(mobileclip=isinstance(text, MobileClipTextConfig))
    if isinstance(vision, StudentConfig):
        hints = dataclasses.replace(hints, student=vision.backbone)
    else:
        hints = dataclasses.replace(
            hints,
            head_width=vision.width // vision.heads,
            window=vision.window,
            global_blocks=vision.global_blocks,
        )
    return context_by_name(read_architecture(shapes, hints), name_with_context(OFFICIAL_FILE, config))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], where: str = "") -> list[str]:
    names = []
    for key in sorted(set(one) | set(other)):
        if key in TRAINING_ONLY:
            continue
        a, b, name = one.get(key), other.get(key), f"{where}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += _differences(a, b, f"{name}.")
        elif a != b:
            names.append(name)
    return names


def _write_own(
    folder: Path, state: dict[str, Tensor], unused: dict[str, Tensor], config: ModelConfig
) -> Conversion:
    files = [folder / "model.safetensors", folder / "config.json"]
    _write_safetensors(files[0], state)
    write_config(folder, config)
    write_card(folder, config)
    if unused:
        files.append(folder / UNUSED_FILE)
        _write_safetensors(folder / UNUSED_FILE, {name: _real(value) for name, value in unused.items()})
    else:
        (folder / UNUSED_FILE).unlink(missing_ok=True)  # of a model that was here before
    return Conversion(files)


def _write_huggingface(
    folder: Path,
    state: dict[str, Tensor],
    unused: dict[str, Tensor],
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
) -> Conversion:
    architecture = without_spare_positions(checkpoint.config.architecture)
    config = dataclasses.replace(checkpoint.config, architecture=architecture)
    table = LITE_TEXT if isinstance(architecture.text, MobileClipTextConfig) else HUGGING_FACE
    unused = _with_pooled(unused, config)
    read, rows = architecture.text.context_length, len(state[POSITIONS])
    theirs, lost = _translated(table, {**state, POSITIONS: state[POSITIONS][:read], **unused}, checkpoint)
    if read < rows:
        lost.append(f"rows {read} to {rows - 1} of {POSITIONS}, which are not read")
    files = [folder / "model.safetensors"]
    _write_safetensors(files[0], theirs)
    for name, values in huggingface_files(config, tokenizer, unused[POOLED].shape[1]).items():
        files.append(folder / name)
        write_text(files[-1], json.dumps(values, indent=2) + "\n")
    return Conversion(files, lost)


def _write_official(
    folder: Path, state: dict[str, Tensor], unused: dict[str, Tensor], checkpoint: Checkpoint
) -> Conversion:
    config = checkpoint.config
    vision, text = config.architecture.vision, config.architecture.text
    backbone = vision.backbone if isinstance(vision, StudentConfig) else None
    table = efficientsam3_table(backbone, isinstance(text, MobileClipTextConfig))
    tables = {}
    if isinstance(vision, ViTConfig):
        tables = rotary_tables(vision, config.preprocessing.resolution)
    whole = state | _with_pooled(unused, config)
    theirs, lost = _translated(table, whole, checkpoint, computed=tables, prefix=DETECTOR)
    nested = _source_report(checkpoint, table).get("nested", NESTED if table is not OFFICIAL else "")
    content: Any = {nested: theirs} if nested else theirs
    file = folder / name_with_context(OFFICIAL_FILE, config.architecture)
    with replacing(file) as path:
        torch.save(content, path)
    return Conversion([file], lost)


def _with_pooled(unused: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Zeros for the projection of whole phrases, where there is none.

    Other programs want it to be there when they load, and do not read it either.
    """
    text = config.architecture.text
    columns = text.width if isinstance(text, MobileClipTextConfig) else POOLED_WIDTH
    return {POOLED: torch.zeros(text.width, columns), **unused}


def _translated(
    table: KeyTable,
    state: dict[str, Tensor],
    checkpoint: Checkpoint,
    computed: Mapping[str, Tensor] | None = None,
    prefix: str = "",
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights under the names of another layout, and what it has no place for.

    Args:
        table: of the other layout.
        state: ours, with what only the way back needs.
        checkpoint: says whether the weights came in this layout, and under which prefix.
        computed: tensors that the layout stores but that are not weights.
        prefix: before all names, unless the weights came with another one.

    Raises:
        CheckpointError: weights of the network would be lost.
    """
    theirs, homeless = table.back(state)
    lost = [n for n in homeless if n.startswith((UNUSED, POINTS)) and bool(state[n].any())]
    weights = [n for n in homeless if not n.startswith((UNUSED, POINTS))]
    if weights:
        raise CheckpointError(f"the {table.layout} layout has no place for {first_few(weights)}")
    prefix = _source_report(checkpoint, table).get("prefix", prefix)
    whole = dict(computed or {}) | {name: _complex(name, value) for name, value in theirs.items()}
    # Copies where a tensor is a part of something larger, which would be stored with it.
    return {f"{prefix}{name}": _alone(value) for name, value in whole.items()}, lost


def _source_report(checkpoint: Checkpoint, table: KeyTable) -> dict[str, str]:
    """How the weights lay in their file, if they came in this layout."""
    report = checkpoint.config.provenance.get("weights")
    if not isinstance(report, dict) or report.get("layout") != table.layout:
        return {}
    return {"nested": report.get("nested", ""), "prefix": report.get("prefix", "")}


def _write_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    with replacing(path) as draft:
        save_file(
            {name: value.contiguous() for name, value in state.items()}, draft, metadata={"format": "pt"}
        )


def _real(value: Tensor) -> Tensor:
    """Complex numbers as pairs: not every version of safetensors stores them."""
    return torch.view_as_real(value) if value.is_complex() else value


def _complex(name: str, value: Tensor) -> Tensor:
    """Undo `_real`; only rotary tables are complex."""
    tables = name.endswith(ROTARY.rpartition(".")[2]) and not value.is_complex()
    return torch.view_as_complex(value.contiguous()) if tables else value


def _alone(value: Tensor) -> Tensor:
    value = value.contiguous()
    size = value.numel() * value.element_size()
    return value if value.untyped_storage().nbytes() == size else value.clone()
