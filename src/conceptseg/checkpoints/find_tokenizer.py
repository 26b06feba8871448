"""The tokenizer of a checkpoint: beside it, in the Hugging Face cache, in another package, or downloaded.

Every released text encoder, SAM 3's own and the students', reads CLIP's vocabulary, so that any copy of it
will do for a checkpoint that comes without one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from conceptseg.errors import CheckpointError, ModelNotFoundError
from conceptseg.hub_download import cached_file, open_repository
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.models.text.tokenizer_files import (
    MERGES,
    ORIGINAL,
    TOKENIZER,
    VOCABULARY,
    read_tokenizer,
)

SOURCE = "openai/clip-vit-base-patch32"  # public, and 2 MB
# Repositories that many have in their cache; all hold CLIP's vocabulary.
CACHED_SOURCES = ("facebook/sam3", SOURCE, "openai/clip-vit-large-patch14", "openai/clip-vit-base-patch16")
FORMS = ((TOKENIZER,), (VOCABULARY, MERGES))  # as these repositories keep it
PACKAGES = ("open_clip", "sam3", "clip")  # each comes with the original file

CLIP_SIZE = 49408


def find_tokenizer(path: str | Path, context_length: int) -> Tokenizer:
    """Find the tokenizer that belongs to a checkpoint.

    Args:
        path: of the checkpoint, a file or a folder.
        context_length: tokens that its text encoder takes.

    Raises:
        CheckpointError: there is none to be found, or the one that lies beside the checkpoint is damaged.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    beside = read_tokenizer(folder, context_length)
    if beside is not None:
        return beside
    for repo in CACHED_SOURCES:
        for names in FORMS:
            files = [cached_file(repo, name) for name in names]
            if files[0] is not None and None not in files:
                return _clip(files[0].parent, context_length)
    installed = next(_installed(), None)
    if installed is not None:
        return _clip(installed, context_length)
    try:
        return _clip(open_repository(SOURCE).fetch([TOKENIZER]), context_length)
    except ModelNotFoundError as error:
        raise CheckpointError(
            f"{path} needs CLIP's tokenizer, and none is beside it, in the Hugging Face cache, in an "
            f"installed {', '.join(PACKAGES)}, or to download: {error}. Put {TOKENIZER}, {VOCABULARY} and "
            f"{MERGES}, or {ORIGINAL} into {folder}"
        ) from error


def check_vocabulary(tokenizer: Tokenizer, rows: int, source: str) -> None:
    """Refuse a tokenizer that is not the one of a text encoder.

    Args:
        tokenizer: found for the model.
        rows: tokens that the text encoder knows.
        source: of the model, for messages.

    Raises:
        CheckpointError: it has more tokens than the encoder knows, or fewer than CLIP's.
    """
    size = tokenizer.vocab_size
    if size > rows or (rows == CLIP_SIZE and size != CLIP_SIZE):
        clips = " (CLIP's vocabulary)" if rows == CLIP_SIZE else ""
        raise CheckpointError(
            f"the tokenizer of {source} has {size} tokens, the text encoder knows {rows}{clips}"
        )


def _installed() -> Iterator[Path]:
    """Folders of installed packages, none of which is imported, that hold CLIP's vocabulary."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for package in map(Path, spec.submodule_search_locations or () if spec is not None else ()):
            for folder in (package, package / "assets", package.parent / "assets"):
                if (folder / ORIGINAL).is_file():
                    yield folder


def _clip(folder: Path, context_length: int) -> Tokenizer:
    tokenizer = read_tokenizer(folder, context_length)
    if tokenizer is None or tokenizer.vocab_size != CLIP_SIZE:
        size = "no" if tokenizer is None else tokenizer.vocab_size
        raise CheckpointError(f"{folder} should hold CLIP's tokenizer of {CLIP_SIZE} tokens; it has {size}")
    return tokenizer
