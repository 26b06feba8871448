"""A detector of all the released parts, small enough for tests, in which no weight keeps its first value."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    ScoringConfig,
    TextConfig,
    ViTConfig,
)
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import GeometricPrompt

RESOLUTION = 28  # 7 x 7 patches of 4 pixels; windows of 3 x 3 do not divide them
GRID = 7
LAYERS, QUERIES, WIDTH = 3, 6, 32

TINY = DetectorConfig(
    width=WIDTH,
    vision=ViTConfig(
        patch_size=4,
        width=32,
        depth=2,
        heads=2,
        mlp_width=40,
        window=3,
        global_blocks=(1,),
        position_grid=3,
        drop_path=0.0,
    ),
    text=TextConfig(vocab_size=60, context_length=8, width=24, depth=2, heads=2, mlp_width=40),
    exemplar=ExemplarConfig(layers=2, heads=4, mlp_width=40, roi_size=3, dropout=0.0),
    fusion=FusionConfig(layers=2, heads=4, mlp_width=40, dropout=0.0),
    decoder=DecoderConfig(layers=LAYERS, heads=4, mlp_width=40, queries=QUERIES, dropout=0.0),
    scoring=ScoringConfig(mlp_width=40, dropout=0.0),
    mask_head=MaskHeadConfig(heads=4),
)


def tiny_config(**parts: dict[str, Any]) -> DetectorConfig:
    """TINY with some fields of some parts replaced: `tiny_config(decoder={"layers": 1})`."""
    return dataclasses.replace(
        TINY, **{k: dataclasses.replace(getattr(TINY, k), **v) for k, v in parts.items()}
    )


def tiny_detector(seed: int = 0, **parts: dict[str, Any]) -> Detector:
    """In eval mode, every parameter random."""
    detector = build_detector(tiny_config(**parts)).eval()
    randomise(detector, seed)
    return detector


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Random values of a size that keeps activations near one and attention sharp."""
    generator = torch.Generator().manual_seed(seed)
    tables = ("embedding", "embedding.weight", "reference_points", "_token")
    for name, value in module.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() > 1:
            fan_in = 1 if name.endswith(tables) else value[0].numel()
            gain = 2.0 if any(word in name for word in ("in_proj", "box_head", "presence_head")) else 1.0
            value.copy_(noise * gain * fan_in**-0.5)
        else:
            value.copy_(noise * 0.3 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))


def pixels(images: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.rand(images, 3, RESOLUTION, RESOLUTION, generator=generator) * 2 - 1


def token_ids() -> Tensor:
    """Three phrases of different lengths."""
    return torch.tensor([[1, 17, 2, 0, 0, 0], [1, 5, 44, 31, 9, 2], [1, 23, 8, 2, 0, 0]])


def boxes() -> GeometricPrompt:
    """Two boxes, one box, none."""
    nothing = [0.5, 0.5, 0.1, 0.1]
    return GeometricPrompt(
        boxes_cxcywh=torch.tensor(
            [
                [[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.3, 0.2]],
                [[0.95, 0.2, 0.4, 0.3], nothing],
                [nothing, nothing],
            ]
        ),
        box_labels=torch.tensor([[1, 0], [1, 0], [0, 0]]),
        box_padding=torch.tensor([[False, False], [False, True], [True, True]]),
    )


def first(prompt: GeometricPrompt, pair: int) -> GeometricPrompt:
    """The prompt of one pair, without its padding."""
    assert (
        prompt.boxes_cxcywh is not None and prompt.box_labels is not None and prompt.box_padding is not None
    )
    real = ~prompt.box_padding[pair]
    return GeometricPrompt(prompt.boxes_cxcywh[pair, real][None], prompt.box_labels[pair, real][None])
