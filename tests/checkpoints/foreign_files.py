"""Files as other programs write them, of tiny networks with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from conceptseg.checkpoints.huggingface import HUGGING_FACE
from conceptseg.checkpoints.key_table import KeyTable
from conceptseg.checkpoints.mobileclip import POOLED
from conceptseg.checkpoints.official import CLASS_POSITION, OFFICIAL, rotary_tables
from conceptseg.models.config import DetectorConfig, ViTConfig
from conceptseg.models.text.tokenizer import train_tokenizer
from tests.models.tiny import RESOLUTION, randomise, tiny_config, tiny_detector

# Shapes do not tell the heads of a text encoder: they are 64 wide, or one.
CONFIG = tiny_config(text={"vocab_size": 300, "heads": 1})


def detector_state(config: DetectorConfig = CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under our names."""
    if config is CONFIG:
        return dict(tiny_detector(seed, text={"vocab_size": 300, "heads": 1}).state_dict())
    from conceptseg.models.build import build_detector

    detector = build_detector(config).eval()
    randomise(detector, seed)
    return dict(detector.state_dict())


def official_state(
    config: DetectorConfig = CONFIG, prefix: str = "", table: KeyTable = OFFICIAL, seed: int = 0
) -> dict[str, Tensor]:
    """What the official code would save of this network, with all that the network itself does not read."""
    state = detector_state(config, seed)
    text_width = config.text.width
    state[POOLED] = torch.randn(text_width, 7)
    if isinstance(config.vision, ViTConfig):
        state[CLASS_POSITION] = torch.randn(1, 1, config.vision.width)
    theirs, homeless = table.back(state)
    assert homeless == []
    if isinstance(config.vision, ViTConfig):
        theirs |= rotary_tables(config.vision, RESOLUTION)
    return {f"{prefix}{name}": value.clone() for name, value in theirs.items()}


def huggingface_state() -> dict[str, Tensor]:
    """What `transformers` would save."""
    state = {n: v for n, v in detector_state().items() if "exemplar_encoder.point_" not in n}
    theirs, homeless = HUGGING_FACE.back(state | {POOLED: torch.randn(CONFIG.text.width, 7)})
    assert homeless == []
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in theirs.items()}


def write_tokenizer(folder: Path, tokens: int = 300) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(["red circle", "coin"], tokens).save(str(folder / "tokenizer.json"))
