"""Which weights a study is about: a digest of the files, and a loader that refuses any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import CheckpointError
from conceptseg.hub import find_model
from conceptseg.loading import load
from conceptseg.segmenter import Segmenter

WEIGHTS = "weights.json"  # in a study's folder: the model it was begun with, and the digest of its weights
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".onnx")


def weights_digest(model: str | Path) -> str:
    """Sixteen hex digits of a model's weight files, every byte of them: presence too, unlike a fingerprint.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: the folder holds no weights.
    """
    home = find_model(model)
    files = [home] if home.is_file() else sorted(it for it in home.iterdir() if it.suffix in WEIGHT_FILES)
    if not files:
        raise CheckpointError(f"{home} holds no weights ({', '.join(WEIGHT_FILES)})")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(2**20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]


def check_weights(model: str | Path, pinned: str | None) -> str:
    """The digest of a model's weights, which must be the pinned one.

    Args:
        model: as for `loading.load`.
        pinned: what it must be; None: any.

    Raises:
        CheckpointError: the weights are others.
    """
    found = weights_digest(model)
    if pinned is not None and found != pinned:
        raise CheckpointError(
            f"{model} has the weights {found}, but this study is about {pinned}; take that model, or say "
            "that any weights will do (--any-weights)"
        )
    return found


def load_pinned(model: str | Path, pinned: str | None) -> Segmenter:
    """The model in float32 on the CPU, for gradients and equal numbers; other weights are refused."""
    check_weights(model, pinned)
    return load(model, device="cpu", dtype="float32")


def keep_to_weights(folder: Path, model: str | Path) -> str:
    """Note in the folder of a study which weights it is about, or check that they are still those.

    Returns:
        Their digest.

    Raises:
        CheckpointError: the folder was begun with others: a model of the same name has changed since.
    """
    file, found = folder / WEIGHTS, weights_digest(model)
    if not file.is_file():
        write_text(file, json.dumps({"model": str(model), "weights": found}, indent=2) + "\n")
        return found
    begun = kept_weights(folder)
    if begun != found:
        raise CheckpointError(
            f"{folder} was begun with the weights {begun}, and {model} has {found} now; "
            "what both gave cannot be compared, so give a new folder (--out)"
        )
    return found


def kept_weights(folder: Path) -> str | None:
    """The digest that a study's folder was begun with; None where it holds none."""
    file = folder / WEIGHTS
    return str(json.loads(file.read_text(encoding="utf-8"))["weights"]) if file.is_file() else None
