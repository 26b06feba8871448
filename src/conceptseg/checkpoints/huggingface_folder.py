"""The small files of a `transformers` folder: what its model, its processor and its tokenizer are told.

With these beside the weights, `Sam3Model.from_pretrained` and `Sam3Processor.from_pretrained` open the folder
and download nothing.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.config_file import read_any_config
from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import ModelConfig, PreprocessingConfig
from conceptseg.models.text.tokenizer import END, START, Tokenizer

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")  # newer and older `transformers`


def as_processor_says(folder: Path, preprocessing: PreprocessingConfig) -> PreprocessingConfig:
    """How the processor of a folder normalises pixels; as before where it does not say.

    Raises:
        CheckpointError: what it says cannot be read, or is no mean and deviation of three channels.
    """
    for name in PROCESSOR_FILES:
        values = read_any_config(folder, name) or {}
        values = values.get("image_processor", values)
        if isinstance(values, dict) and values.get("image_mean") and values.get("image_std"):
            try:
                mean, std = (tuple(map(float, values[key])) for key in ("image_mean", "image_std"))
                if len(mean) != 3 or len(std) != 3:
                    raise ConfigError(f"image_mean and image_std need three numbers each: {mean}, {std}")
                return dataclasses.replace(preprocessing, mean=mean, std=std)
            except (ConfigError, TypeError, ValueError) as error:
                raise CheckpointError(f"{folder / name}: {error}") from error
    return preprocessing


def huggingface_files(config: ModelConfig, tokenizer: Tokenizer, pooled_width: int) -> dict[str, Any]:
    """File name -> what goes into it as JSON.

    Args:
        config: of the model that is written.
        tokenizer: written beside it.
        pooled_width: columns of the projection of whole phrases, which is stored and not read.

    Raises:
        ConfigError: that layout has no such network.
    """
    seen = config.preprocessing
    model = config_to_huggingface(config.architecture, seen.resolution)
    model["text_config"] |= {
        "projection_dim": pooled_width,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
    }
    return {
        "config.json": model,
        "processor_config.json": {
            "processor_class": "Sam3Processor",
            "target_size": seen.resolution,
            "image_processor": {
                "image_processor_type": "Sam3ImageProcessor",
                "size": {"height": seen.resolution, "width": seen.resolution},
                "image_mean": list(seen.mean),
                "image_std": list(seen.std),
            },
        },
        # It pads with another token than the official code, behind a mask: SAM 3's encoder reads neither.
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        },
    }
