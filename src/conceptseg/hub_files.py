"""Which files of a Hub repository make a model: told from their names and from the small config.json.

Three forms, in this order: a folder of ours, a folder of `transformers` (one weight file, or shards with an
index), or a single checkpoint file (.pt, .pth, .safetensors), which the user names when there are several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from conceptseg.checkpoints.config_file import CONFIG, MODEL_FORMAT
from conceptseg.checkpoints.folder import FILES
from conceptseg.errors import CheckpointError
from conceptseg.models.text.tokenizer_files import TOKENIZER_FILES

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")

OWN_EXTRAS = ("unused.safetensors",)  # what a conversion carries along for the way back
TRANSFORMERS_EXTRAS = ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
TRANSFORMERS_WEIGHTS = "model.safetensors"
TRANSFORMERS_INDEX = "model.safetensors.index.json"

SHARD = re.compile(r"model-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors")
ANY_SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
# What a trainer leaves beside the weights.
TRAINER_STATE = re.compile(r"(optimizer|scheduler|rng_state|training_args|unused)\b.*")


@dataclass(frozen=True)
class ModelFiles:
    """What to fetch, and what of it is the model."""

    names: tuple[str, ...]
    checkpoint: str | None = None  # None: the folder itself


def model_files(
    repo: str, names: Iterable[str], config: Mapping[str, Any] | None, checkpoint: str | None = None
) -> ModelFiles:
    """Choose the files of a model.

    Args:
        repo: for messages.
        names: of all files of the repository.
        config: what its config.json says; None: it has none.
        checkpoint: the file that the user asked for, if any.

    Raises:
        CheckpointError: no such file, no weights, shards missing, or several checkpoints and none was named.
    """
    there = sorted(names)
    checkpoints = single_checkpoints(there, has_config=config is not None)
    if checkpoint is not None:
        if checkpoint not in there:
            raise CheckpointError(
                f"the Hugging Face repository {repo} has no file {checkpoint!r}; {_its(checkpoints)}"
            )
        return _single(checkpoint, there)
    if config is not None and config.get("format") == MODEL_FORMAT:
        wanted = (*FILES, *(name for name in OWN_EXTRAS if name in there))
        missing = [name for name in FILES if name not in there]
        if missing:
            raise CheckpointError(
                f"the Hugging Face repository {repo} is no complete model folder: it lacks {missing[0]}"
            )
        return ModelFiles(wanted)
    if config is not None and is_sam3_config(config):
        weights = _transformers_weights(repo, there)
        if weights:
            extras = [name for name in (*TRANSFORMERS_EXTRAS, *TOKENIZER_FILES) if name in there]
            return ModelFiles((CONFIG, *weights, *extras))
    if len(checkpoints) == 1:
        return _single(checkpoints[0], there)
    if checkpoints:
        raise CheckpointError(
            f"the Hugging Face repository {repo} holds {len(checkpoints)} checkpoints; name one of them as "
            f"{repo}:{checkpoints[0]}; {_its(checkpoints)}"
        )
    raise CheckpointError(
        f"the Hugging Face repository {repo} is in no layout that this version reads: a folder of conceptseg "
        f"({', '.join(FILES)}), one of transformers (a sam3 config.json and {TRANSFORMERS_WEIGHTS}), "
        f"or a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)})"
    )


def single_checkpoints(names: Iterable[str], has_config: bool) -> list[str]:
    """Files that may each be a whole network; a config.json speaks for the model.safetensors beside it."""
    spoken_for = TRANSFORMERS_WEIGHTS if has_config else None
    return sorted(name for name in names if _is_checkpoint(name) and name != spoken_for)


def is_sam3_config(config: Mapping[str, Any]) -> bool:
    """Whether `transformers` wrote it for a network with SAM 3's detector in it; a tracker alone has none."""
    kind = config.get("model_type")
    return isinstance(kind, str) and kind.startswith("sam3") and "tracker" not in kind


def _transformers_weights(repo: str, there: list[str]) -> list[str]:
    if TRANSFORMERS_WEIGHTS in there:
        return [TRANSFORMERS_WEIGHTS]
    if TRANSFORMERS_INDEX not in there:
        return []
    shards = [match for name in there if (match := SHARD.fullmatch(name))]
    if not shards or len(shards) != int(shards[0]["count"]):
        of = f" of {int(shards[0]['count'])}" if shards else ""
        raise CheckpointError(
            f"the Hugging Face repository {repo} has {len(shards)}{of} shards of {TRANSFORMERS_WEIGHTS}"
        )
    return [TRANSFORMERS_INDEX, *(match.string for match in shards)]


def _is_checkpoint(name: str) -> bool:
    file = PurePosixPath(name).name
    return (
        file.endswith(CHECKPOINT_SUFFIXES) and not ANY_SHARD.fullmatch(file) and not TRAINER_STATE.match(file)
    )


def _single(checkpoint: str, there: list[str]) -> ModelFiles:
    """A checkpoint and the tokenizer beside it."""
    beside = (str(PurePosixPath(checkpoint).with_name(name)) for name in TOKENIZER_FILES)
    return ModelFiles((*(name for name in beside if name in there), checkpoint), checkpoint)


def _its(checkpoints: list[str], count: int = 12) -> str:
    if not checkpoints:
        return "it has no checkpoints"
    more = f" and {len(checkpoints) - count} more" if len(checkpoints) > count else ""
    return f"its checkpoints are {', '.join(checkpoints[:count])}{more}"
