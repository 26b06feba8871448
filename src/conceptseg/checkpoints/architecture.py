"""The sizes of a network, read off the names and shapes of its weights: the user names nothing.

Works on our names, so that every layout that has a key table is recognised. What shapes do not say (heads of
a trunk, size of its windows) comes from hints that a layout gives, or is as in the released models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from conceptseg.checkpoints.mobileclip import mobileclip_config
from conceptseg.errors import CheckpointError
from conceptseg.models.config import (
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    MobileClipTextConfig,
    NeckConfig,
    PresenceConfig,
    ScoringConfig,
    StudentConfig,
    TextConfig,
    ViTConfig,
)

Shapes = Mapping[str, torch.Size]

HEAD_WIDTH = 64  # of trunk and text encoder, where nothing says otherwise


@dataclass(frozen=True)
class Hints:
    """What a layout knows of the encoders beyond the shapes of their weights."""

    head_width: int = HEAD_WIDTH
    window: int | None = None  # tokens per side; None: as large as the position table
    global_blocks: tuple[int, ...] | None = None  # None: the last of every quarter
    student: str | None = None  # backbone, when the trunk is a student
    mobileclip: bool = False  # the text encoder is a student


def parts_in(shapes: Shapes) -> set[str]:
    """Names of the modules of which there is at least one weight."""
    return {name.partition(".")[0] for name in shapes}


def read_architecture(shapes: Shapes, hints: Hints, base: DetectorConfig | None = None) -> DetectorConfig:
    """Sizes of all parts.

    Args:
        shapes: our name -> shape.
        hints: about the encoders.
        base: of another network, from which parts are taken that have no weights here.

    Raises:
        CheckpointError: weights of a part are there, but not those that tell its size.
    """
    there = parts_in(shapes)
    known = base or DetectorConfig()
    found: dict[str, Any] = {}
    try:
        heads = _heads(shapes) if "decoder" in there else known.decoder.heads
        if "vision_encoder" in there:
            found["vision"] = _vision(shapes, hints)
        if "neck" in there:
            found["neck"] = _neck(shapes)
        if "text_encoder" in there:
            found["text"] = _text(shapes, hints)
        if "exemplar_encoder" in there:
            found["exemplar"] = _exemplar(shapes, heads)
        if "fusion_encoder" in there:
            found["fusion"] = _fusion(shapes, heads)
        if "decoder" in there:
            found["width"] = shapes["decoder.query_embedding"][1]
            found["decoder"] = _decoder(shapes, heads)
            found["presence"] = PresenceConfig(layers=_count(shapes, "decoder.presence_head.mlp.layers"))
        if "scoring" in there:
            found["scoring"] = ScoringConfig(mlp_width=shapes["scoring.prompt_mlp.layers.0.weight"][0])
        if "mask_head" in there:
            stages = _count(shapes, "mask_head.convs")
            found["mask_head"] = MaskHeadConfig(heads=heads, upsampling_stages=stages)
        return replace(known, **found)
    except KeyError as error:
        raise CheckpointError(f"{error.args[0]}, which tells the size of the network, is missing") from error
    except (IndexError, ValueError) as error:  # also a ConfigError
        raise CheckpointError(f"the sizes of the weights fit no network: {error}") from error


def _vision(shapes: Shapes, hints: Hints) -> ViTConfig | StudentConfig:
    if hints.student is not None:
        width = shapes["vision_encoder.head.0.weight"][0]
        return StudentConfig(backbone=hints.student, head_width=width)  # type: ignore[arg-type]  # checked there
    width, _, patch, _ = shapes["vision_encoder.patch_embed.weight"]
    depth = _count(shapes, "vision_encoder.blocks")
    grid = shapes["vision_encoder.position_embedding"][1]
    quarters = tuple(i for i in range(depth) if (i + 1) % max(1, depth // 4) == 0)
    return ViTConfig(
        patch_size=patch,
        width=width,
        depth=depth,
        heads=max(1, width // hints.head_width),
        mlp_width=shapes["vision_encoder.blocks.0.mlp.0.weight"][0],
        window=grid if hints.window is None else hints.window,
        global_blocks=quarters if hints.global_blocks is None else hints.global_blocks,
        position_grid=grid,
    )


def _neck(shapes: Shapes) -> NeckConfig:
    """A branch that upsamples says so; of the others the first keeps the resolution, the next halves it."""
    scales: list[float] = []
    for i in range(_count(shapes, "neck.branches")):
        if f"neck.branches.{i}.resample.2.weight" in shapes:
            scales.append(4.0)
        elif f"neck.branches.{i}.resample.0.weight" in shapes:
            scales.append(2.0)
        else:
            scales.append(0.5 if 1.0 in scales else 1.0)
    return NeckConfig(
        scales=tuple(scales), drop_last=int(0.5 in scales)
    )  # SAM 3.1 has no level to throw away


def _text(shapes: Shapes, hints: Hints) -> TextConfig | MobileClipTextConfig:
    if hints.mobileclip:
        text = mobileclip_config(shapes)
        return replace(text, heads=max(1, text.heads))
    vocabulary, width = shapes["text_encoder.token_embedding.weight"]
    return TextConfig(
        vocab_size=vocabulary,
        context_length=shapes["text_encoder.position_embedding"][0],
        width=width,
        depth=_count(shapes, "text_encoder.blocks"),
        heads=max(1, width // HEAD_WIDTH),
        mlp_width=shapes["text_encoder.blocks.0.mlp.0.weight"][0],
    )


def _exemplar(shapes: Shapes, heads: int) -> ExemplarConfig:
    return ExemplarConfig(
        layers=_count(shapes, "exemplar_encoder.layers"),
        heads=heads,
        mlp_width=shapes["exemplar_encoder.layers.0.feed_forward.linear1.weight"][0],
        roi_size=shapes["exemplar_encoder.box_features.weight"][2],
    )


def _fusion(shapes: Shapes, heads: int) -> FusionConfig:
    mlp_width = shapes["fusion_encoder.layers.0.feed_forward.linear1.weight"][0]
    return FusionConfig(layers=_count(shapes, "fusion_encoder.layers"), heads=heads, mlp_width=mlp_width)


def _decoder(shapes: Shapes, heads: int) -> DecoderConfig:
    return DecoderConfig(
        layers=_count(shapes, "decoder.layers"),
        heads=heads,
        mlp_width=shapes["decoder.layers.0.feed_forward.linear1.weight"][0],
        queries=shapes["decoder.query_embedding"][0],
    )


def _heads(shapes: Shapes) -> int:
    """The box-relative bias has one output per head; all parts of the detector have as many."""
    return shapes["decoder.box_bias.columns.layers.1.weight"][0]


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered modules there are.

    Raises:
        ValueError: a number is left out. So one key with a huge number makes no huge network.
    """
    found = [re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in shapes]
    numbers = {int(match[1]) for match in found if match}
    if numbers != set(range(len(numbers))):
        gap = next(i for i in range(len(numbers)) if i not in numbers)
        raise ValueError(f"there is no {prefix}.{gap}, but {prefix}.{max(numbers)}")
    return len(numbers)
