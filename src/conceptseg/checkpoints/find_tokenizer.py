"""The tokenizer of a checkpoint: beside it, in the Hugging Face cache, or downloaded.

Every released text encoder, SAM 3's own and the students', reads CLIP's vocabulary, so that any copy of it
will do for a checkpoint that comes without one.
"""

from __future__ import annotations

from pathlib import Path

from conceptseg.errors import CheckpointError, ModelNotFoundError
from conceptseg.hub_download import cached_file, open_repository
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.models.text.tokenizer_files import MERGES, TOKENIZER, VOCABULARY, read_tokenizer

SOURCE = "openai/clip-vit-base-patch32"  # public, and 2 MB
# Repositories that many have in their cache; all hold CLIP's vocabulary.
CACHED_SOURCES = ("facebook/sam3", SOURCE, "openai/clip-vit-large-patch14", "openai/clip-vit-base-patch16")
FORMS = ((TOKENIZER,), (VOCABULARY, MERGES))  # as these repositories keep it

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
    try:
        return _clip(open_repository(SOURCE).fetch([TOKENIZER]), context_length)
    except ModelNotFoundError as error:
        raise CheckpointError(
            f"{path} needs CLIP's tokenizer, and none beside it, none in the Hugging Face cache, and none "
            f"to download: {error}. Put {TOKENIZER}, {VOCABULARY} and {MERGES}, or "
            f"bpe_simple_vocab_16e6.txt.gz into {folder}"
        ) from error


def _clip(folder: Path, context_length: int) -> Tokenizer:
    tokenizer = read_tokenizer(folder, context_length)
    if tokenizer is None or tokenizer.vocab_size != CLIP_SIZE:
        size = "no" if tokenizer is None else tokenizer.vocab_size
        raise CheckpointError(f"{folder} should hold CLIP's tokenizer of {CLIP_SIZE} tokens; it has {size}")
    return tokenizer
