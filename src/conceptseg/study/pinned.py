"""Which weights a study is about: a digest of the files, and a loader that refuses any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

from conceptseg.errors import CheckpointError
from conceptseg.hub import find_model
from conceptseg.loading import load
from conceptseg.segmenter import Segmenter

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
