"""The model that learns: a teacher with other encoders, or the model that an earlier stage left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from conceptseg.checkpoints.loaders import LoadedModel, load_checkpoint
from conceptseg.errors import ConfigError
from conceptseg.hub import find_model
from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    PYRAMIDS,
    DetectorConfig,
    ModelConfig,
    PreprocessingConfig,
    ViTConfig,
    config_from_dict,
)
from conceptseg.models.detector import Detector
from conceptseg.models.presets import PRESETS
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.train.recipe_file import laid_over
from conceptseg.train.start import take_weights

ENCODERS = ("vision_encoder", "text_encoder")


def student_architecture(teacher: DetectorConfig, preset: str, changes: dict[str, Any]) -> DetectorConfig:
    """The teacher's network with the encoders of a preset.

    Args:
        teacher: the teacher's architecture.
        preset: a key of `models.presets.PRESETS`.
        changes: laid over the result: {"vision": {"backbone": "repvit_m0_9"}}.

    Raises:
        ConfigError: unknown preset, unknown keys, or parts that do not go together.
    """
    if preset not in PRESETS:
        raise ConfigError(f"student is {preset!r}; choose a model, or a preset: {', '.join(PRESETS)}")
    encoders = PRESETS[preset]
    # One map or several: the neck must fit the trunk, and where it can it is the teacher's.
    several = isinstance(teacher.vision, PYRAMIDS), isinstance(encoders.vision, PYRAMIDS)
    made = teacher.to_dict()
    made["vision"] = dataclasses.asdict(encoders.vision)
    made["text"] = {**dataclasses.asdict(encoders.text), "vocab_size": teacher.text.vocab_size}
    made["neck"] = dataclasses.asdict(teacher.neck if several[0] == several[1] else encoders.neck)
    return config_from_dict(DetectorConfig, laid_over(made, changes), "architecture")


def make_student(
    teacher: tuple[Detector, Tokenizer, ModelConfig],
    preset: str,
    changes: dict[str, Any],
    resolution: int | None,
    inherit: bool = False,
    trunk_blocks: Sequence[int] = (),
) -> tuple[Detector, Tokenizer, ModelConfig, list[str]]:
    """A student with encoders of its own and everything else copied from its teacher.

    Args:
        teacher: its network, tokenizer and config.
        preset: whose encoders the student gets.
        changes: laid over its architecture.
        resolution: that the student sees; None: as the teacher.
        inherit: encoders, too, begin with the teacher's weights wherever name and shape are the same: of a
            shorter encoder of the same widths everything but what was left out.
        trunk_blocks: with `inherit`, the blocks of the teacher's ViT that the student's begin as, in order.

    Returns:
        Network, tokenizer, config, and the names of the weights that begin fresh.

    Raises:
        ConfigError: unknown preset, sizes that cannot be copied, or blocks that the trunks do not have.
    """
    theirs, tokenizer, config = teacher
    architecture = student_architecture(config.architecture, preset, changes)
    detector = build_detector(architecture)
    weights = theirs.state_dict()
    if trunk_blocks:
        weights = _kept_blocks(weights, trunk_blocks, config.architecture, architecture)
    fresh = take_weights(detector, weights, () if inherit else ENCODERS)
    strange = sorted({name.split(".")[0] for name in fresh} - {*ENCODERS, "neck"})
    if strange:
        raise ConfigError(
            f"the student's {', '.join(strange)} cannot be copied from the teacher: sizes differ; stage 1 "
            "changes encoders only"
        )
    given = config.preprocessing
    preprocessing = PreprocessingConfig(resolution or given.resolution, given.mean, given.std)
    check_resolution(preprocessing.resolution, architecture)
    own = dataclasses.replace(config, architecture=architecture, preprocessing=preprocessing, provenance={})
    return detector, tokenizer.with_context_length(architecture.text.context_length), own, fresh


def _kept_blocks(
    weights: Mapping[str, Tensor], kept: Sequence[int], teacher: DetectorConfig, student: DetectorConfig
) -> dict[str, Tensor]:
    """The teacher's weights with some blocks of its ViT, counted anew.

    Raises:
        ConfigError: a trunk is none, or has no such blocks; or a block would attend otherwise than it did.
    """
    theirs, ours = teacher.vision, student.vision
    if not isinstance(theirs, ViTConfig) or not isinstance(ours, ViTConfig):
        raise ConfigError("trunk_blocks names blocks of a ViT; teacher and student both need one")
    if len(kept) != ours.depth or any(not 0 <= block < theirs.depth for block in kept):
        raise ConfigError(
            f"trunk_blocks names {len(kept)} blocks up to {max(kept)}; the student's trunk has "
            f"{ours.depth}, the teacher's {theirs.depth} counted from 0"
        )
    seeing_all = tuple(new for new, old in enumerate(kept) if old in theirs.global_blocks)
    if seeing_all != ours.global_blocks:
        raise ConfigError(
            f"architecture.vision.global_blocks is {list(ours.global_blocks)}, but {list(seeing_all)} of "
            "trunk_blocks are those that attend over the whole image in the teacher"
        )
    prefix = "vision_encoder.blocks."
    chosen = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    for new, old in enumerate(kept):
        own = f"{prefix}{old}."
        chosen |= {
            f"{prefix}{new}.{name.removeprefix(own)}": value
            for name, value in weights.items()
            if name.startswith(own)
        }
    return chosen


def load_student(name: str, resolution: int | None) -> tuple[Detector, Tokenizer, ModelConfig]:
    """A model that goes on learning.

    Raises:
        ModelNotFoundError, CheckpointError: as `conceptseg.load`.
        ConfigError: an impossible resolution.
    """
    return at_resolution(load_checkpoint(find_model(name)), resolution)


def at_resolution(model: LoadedModel, resolution: int | None) -> tuple[Detector, Tokenizer, ModelConfig]:
    """A loaded model that sees pictures at another size; None keeps its own.

    Raises:
        ConfigError: an impossible resolution.
    """
    detector, tokenizer, config = model
    if resolution is not None:
        check_resolution(resolution, config.architecture)
        preprocessing = dataclasses.replace(config.preprocessing, resolution=resolution)
        config = dataclasses.replace(config, preprocessing=preprocessing)
    return detector, tokenizer, config


def check_same_answers(student: DetectorConfig, teacher: DetectorConfig) -> None:
    """Refuse a pair whose decoders do not correspond layer by layer and query by query.

    Raises:
        ConfigError: names the first difference.
    """
    for name, ours, theirs in (
        ("width", student.width, teacher.width),
        ("decoder.queries", student.decoder.queries, teacher.decoder.queries),
        ("decoder.layers", student.decoder.layers, teacher.decoder.layers),
    ):
        if ours != theirs:
            raise ConfigError(
                f"{name} is {ours} in the student and {theirs} in the teacher; they must be equal, because "
                "queries are compared one by one"
            )


def check_resolution(resolution: int, architecture: DetectorConfig) -> None:
    """Refuse a size that the vision encoder cannot see.

    Raises:
        ConfigError: names the multiple that is needed.
    """
    stride = architecture.vision.stride
    if resolution < stride or resolution % stride:
        raise ConfigError(f"resolution is {resolution}; it must be a multiple of {stride} for this student")
