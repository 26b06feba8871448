"""The small files of a `transformers` folder: what its model, its processor and its tokenizer are told.

With these beside the weights, `Sam3Model.from_pretrained` and `Sam3Processor.from_pretrained` open the folder
and download nothing.
"""

from __future__ import annotations

from typing import Any

from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.models.config import ModelConfig
from conceptseg.models.text.tokenizer import END, START, Tokenizer


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
