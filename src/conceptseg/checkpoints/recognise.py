"""Which layout the keys of a file are of, and what it tells about the network beyond the shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isqrt

import torch

from conceptseg.checkpoints.architecture import Hints
from conceptseg.checkpoints.efficientsam3 import efficientsam3_table, encoder_table, find_student
from conceptseg.checkpoints.huggingface import PREFIX, huggingface_table
from conceptseg.checkpoints.key_table import KeyTable, Plan, first_few
from conceptseg.checkpoints.official import OFFICIAL, ROTARY_TABLES
from conceptseg.errors import CheckpointError

OFFICIAL_MARKS = (
    "backbone.vision_backbone.",
    "backbone.language_backbone.",
    "transformer.encoder.",
    "transformer.decoder.",
    "segmentation_head.",
)
HUGGING_FACE_MARKS = (
    "vision_encoder.backbone.embeddings.",
    "detr_decoder.",
    "detr_encoder.",
    "mask_decoder.",
)
OWN_MARKS = ("fusion_encoder.layers.", "decoder.query_embedding")


@dataclass(frozen=True)
class Layout:
    """How the keys of one file are to be read."""

    table: KeyTable
    hints: Hints
    whole: bool = True  # False: one encoder and nothing else


def recognise(shapes: Mapping[str, torch.Size]) -> Layout:
    """The layout that these keys and shapes are of.

    Raises:
        CheckpointError: none that is known.
    """
    encoder = encoder_table(shapes)
    if encoder is not None:
        table, backbone = encoder
        return Layout(table, Hints(student=backbone, mobileclip=backbone is None), whole=False)
    prefix = _prefix(shapes, HUGGING_FACE_MARKS, (PREFIX, ""))
    if prefix is not None:
        table = huggingface_table(shapes)
        return Layout(table, Hints(mobileclip=table.layout.endswith("LiteText")))
    prefix = _prefix(shapes, OFFICIAL_MARKS, (*OFFICIAL.prefixes, ""))
    if prefix is not None:
        backbone, mobileclip = find_student(shapes, prefix)
        return Layout(
            efficientsam3_table(backbone, mobileclip), Hints(student=backbone, mobileclip=mobileclip)
        )
    if _prefix(shapes, OWN_MARKS, ("",)) is not None:
        raise CheckpointError(
            "these are weights of a conceptseg model folder; give the folder that they lie in"
        )
    raise CheckpointError(
        f"no known layout has {first_few(list(shapes))}; this reads SAM 3, EfficientSAM3, SAM3-LiteText and "
        "their Hugging Face forms"
    )


def _prefix(names: Iterable[str], marks: tuple[str, ...], prefixes: tuple[str, ...]) -> str | None:
    """The longest prefix with which some name begins one of the marks."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if any(name.startswith(tuple(f"{prefix}{mark}" for mark in marks)) for name in names):
            return prefix
    return None


def rotary_hints(
    hints: Hints, plan: Plan, shapes: Mapping[str, torch.Size], patch: int
) -> tuple[Hints, int | None]:
    """What the rotary tables of an official file tell: width of a head, windows, and the resolution.

    Args:
        hints: to add to.
        plan: says which keys are rotary tables.
        shapes: foreign name -> shape; a table has one row per token, one column per pair of channels.
        patch: pixels per side of a token.

    Returns:
        The hints, and the resolution in pixels when it is told.

    Raises:
        CheckpointError: the tables are not those of square windows and one square grid.
    """
    sides: dict[int, int] = {}  # block -> tokens per side
    pairs: set[int] = set()
    for key in plan.skipped.get(ROTARY_TABLES.reason, ()):
        block, shape = re.search(r"blocks\.(\d+)\.", key), shapes[key]
        if block is None or len(shape) != 2 or isqrt(shape[0]) ** 2 != shape[0]:
            raise CheckpointError(f"{key} of shape {tuple(shape)} is no rotary table of a square")
        sides[int(block[1])] = isqrt(shape[0])
        pairs.add(shape[1])
    if not sides:
        return hints, None
    window, grid = min(sides.values()), max(sides.values())
    if len(pairs) > 1 or not set(sides.values()) <= {window, grid}:
        raise CheckpointError("its rotary tables are of more than one window and one grid")
    whole_image = tuple(sorted(block for block, side in sides.items() if side == grid != window))
    hints = replace(hints, head_width=2 * pairs.pop(), window=window, global_blocks=whole_image)
    return hints, grid * patch if whole_image else None
