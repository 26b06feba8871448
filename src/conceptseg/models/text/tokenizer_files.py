"""A CLIP tokenizer on disk -> `Tokenizer`: three forms, one and the same byte-pair encoding.

`tokenizer.json` (the `tokenizers` library), `vocab.json` + `merges.txt` (older `transformers` repositories),
or `bpe_simple_vocab_16e6.txt.gz` (beside the original code, which derives the vocabulary from the merges).
"""

from __future__ import annotations

import gzip
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE

from conceptseg.errors import CheckpointError
from conceptseg.models.text.tokenizer import END, START, Tokenizer

TOKENIZER, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
ORIGINAL = "bpe_simple_vocab_16e6.txt.gz"
TOKENIZER_FILES = (TOKENIZER, VOCABULARY, MERGES, ORIGINAL)

WORD_END = "</w>"
ORIGINAL_MERGES = 49152 - 256 - 2  # as CLIP's code counts them; the file holds more than it was trained with
ORIGINAL_LIMIT = 64 << 20  # bytes when unpacked; the real one has 3 MB
# How CLIP splits cleaned text: contractions, words, single digits, runs of anything else.
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def read_tokenizer(folder: Path, context_length: int) -> Tokenizer | None:
    """The tokenizer in a folder, in the first of the three forms that is there; None: there is none.

    Raises:
        CheckpointError: it is damaged, or has no start and end tokens.
    """
    if (folder / TOKENIZER).is_file():
        return Tokenizer.load(folder / TOKENIZER, context_length)
    if (folder / VOCABULARY).is_file() and (folder / MERGES).is_file():
        return Tokenizer(_from_vocabulary(folder / VOCABULARY, folder / MERGES), context_length)
    if (folder / ORIGINAL).is_file():
        return Tokenizer(_from_original(folder / ORIGINAL), context_length)
    return None


def clip_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> FastTokenizer:
    """CLIP's byte-pair encoding.

    Args:
        vocabulary: piece -> id, with the start and end tokens.
        merges: in the order in which they were learned.
    """
    tokenizer = FastTokenizer(
        BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=WORD_END, unk_token=END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in (START, END)]
    )
    return tokenizer


def byte_symbols() -> list[str]:
    """A printable character for each byte, in the order of CLIP's first ids: printable bytes come first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]


def _from_vocabulary(vocabulary_path: Path, merges_path: Path) -> FastTokenizer:
    try:
        vocabulary, merges = BPE.read_file(str(vocabulary_path), str(merges_path))
        _check_has_ends(vocabulary, vocabulary_path)
        return clip_tokenizer(vocabulary, merges)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises bare Exception for damaged files
        raise CheckpointError(f"cannot read the tokenizer {vocabulary_path} + {MERGES}: {error}") from error


def _from_original(path: Path) -> FastTokenizer:
    try:
        with gzip.open(path) as file:
            content = file.read(ORIGINAL_LIMIT + 1)
        if len(content) > ORIGINAL_LIMIT:
            raise CheckpointError(
                f"{path} unpacks to more than {ORIGINAL_LIMIT >> 20} MB; it is no vocabulary"
            )
        _, *lines = content.decode("utf-8").split("\n")  # the first says what the file is
        merges = [_pair(line) for line in lines[:ORIGINAL_MERGES] if line.strip()]
        symbols = byte_symbols()
        pieces = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(pair) for pair in merges)]
        vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
        return clip_tokenizer(vocabulary, merges)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises bare Exception for merges that make no sense
        raise CheckpointError(f"cannot read the tokenizer {path}: {error}") from error


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split()
    return first, second


def _check_has_ends(vocabulary: dict[str, int], path: Path) -> None:
    # The library would add them under new ids, which the text encoder does not know.
    if START not in vocabulary or END not in vocabulary:
        raise CheckpointError(f"the tokenizer {path} has no {START} and {END} tokens")
