"""What lies at a path -> an opened checkpoint, whatever its layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from conceptseg.checkpoints.checkpoint import Checkpoint
from conceptseg.checkpoints.config_file import MODEL_FORMAT, ONNX_FORMAT, read_any_config
from conceptseg.checkpoints.folder import FILES, UNUSED_FILE, open_model_folder
from conceptseg.checkpoints.foreign import WEIGHT_SUFFIXES, open_foreign
from conceptseg.checkpoints.huggingface_config import config_from_huggingface, image_size
from conceptseg.checkpoints.huggingface_folder import as_processor_says
from conceptseg.checkpoints.key_table import first_few
from conceptseg.checkpoints.safetensors_file import INDEX_SUFFIX
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

LoadedModel: TypeAlias = "tuple[Detector, Tokenizer, ModelConfig]"

# In a folder of `transformers`, the first that is there.
TRANSFORMERS_FILES = ("model.safetensors", f"model{INDEX_SUFFIX}", "pytorch_model.bin")
KNOWN = (
    f"a conceptseg model folder ({', '.join(FILES)}), a Hugging Face folder of sam3 or sam3_lite_text "
    "(config.json, model.safetensors), or a file of SAM 3, EfficientSAM3 or SAM3-LiteText weights "
    "(.pt, .pth, .safetensors)"
)


def load_checkpoint(
    path: Path, geometry_from: Path | None = None, text_context: int | None = None
) -> LoadedModel:
    """Read a model from a file or folder in any known layout; weights as float32 on the CPU.

    Args:
        path: of the file or folder.
        geometry_from: another one, from which parts are taken that the first lacks.
        text_context: tokens that a MobileCLIP text encoder reads; None: what the files say, see
            `text_context.py`.

    Raises:
        CheckpointError: no known layout, or the weights are damaged or do not fit.
        OptionError: the text encoder cannot read so many tokens.
    """
    checkpoint = open_checkpoint(path, geometry_from, text_context)
    tokenizer = checkpoint.tokenizer()  # before gigabytes are read: it may be missing
    return checkpoint.load(), tokenizer, checkpoint.config


def open_checkpoint(
    path: Path, geometry_from: Path | None = None, text_context: int | None = None
) -> Checkpoint:
    """Recognise and check what lies at a path; its weights are read when they are asked for.

    Raises:
        CheckpointError, OptionError: as `load_checkpoint`.
    """
    base = None if geometry_from is None else open_checkpoint(geometry_from)
    if not path.is_dir():
        return open_foreign(path, base, text_context=text_context)
    config = read_any_config(path)
    if config is not None and config.get("format") == MODEL_FORMAT:
        return open_model_folder(path, text_context)
    if config is not None and config.get("format") == ONNX_FORMAT:
        raise CheckpointError(
            f"{path} is an ONNX folder: it can be asked, but holds no weights to read; give the model that "
            "it was exported from"
        )
    if config is not None and str(config.get("model_type", "")).startswith("sam3"):
        weights = [path / name for name in TRANSFORMERS_FILES if (path / name).is_file()]
        if not weights:
            raise CheckpointError(f"{path} has a config.json but no {' or '.join(TRANSFORMERS_FILES[:2])}")
        try:
            architecture, resolution = config_from_huggingface(config), image_size(config)
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}/config.json: {error}") from error
        checkpoint = open_foreign(weights[0], base, architecture, resolution, text_context)
        preprocessing = as_processor_says(path, checkpoint.config.preprocessing)
        return replace(checkpoint, config=replace(checkpoint.config, preprocessing=preprocessing))
    files = _weight_files(path)
    if len(files) == 1 and config is None and files[0].name != FILES[1]:
        return open_foreign(files[0], base, text_context=text_context)
    if config is None and any((path / name).is_file() for name in FILES):
        return open_model_folder(path)  # which says what it misses
    if len(files) == 1:
        return open_foreign(files[0], base, text_context=text_context)
    if files:
        names = [file.name for file in files]
        raise CheckpointError(
            f"{path} holds {len(files)} files of weights ({first_few(names)}); give one of them"
        )
    raise CheckpointError(f"{path} is in no layout that this version reads. It reads {KNOWN}")


def _weight_files(folder: Path) -> list[Path]:
    names = sorted(entry for entry in folder.iterdir() if entry.name.endswith(WEIGHT_SUFFIXES))
    return [entry for entry in names if entry.is_file() and entry.name != UNUSED_FILE]
