"""Phrases -> token ids, by the tokenizer that lies beside the weights.

The standard is the original code of SAM 3: what it does to a phrase before the byte-pair encoding, `clean`
does. The same ids come from `transformers` for phrases that need no repair; it leaves HTML escapes, curly
quotes, full-width letters and garbled encodings as they are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

import ftfy
import torch
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from conceptseg.errors import CheckpointError

START, END = "<|startoftext|>", "<|endoftext|>"


class Tokenizer:
    """CLIP's layout: start, pieces, end, then zeros; too long a phrase is cut and still gets its end."""

    def __init__(self, tokenizer: FastTokenizer, context_length: int) -> None:
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if start is None or end is None:
            raise CheckpointError(f"the tokenizer has no {START} and {END} tokens")
        self._tokenizer = tokenizer
        self.start_id, self.end_id = start, end
        self.context_length = context_length

    @classmethod
    def load(cls, path: str | Path, context_length: int) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            CheckpointError: missing, damaged, or without start and end tokens.
        """
        path = Path(path)
        try:
            tokenizer = FastTokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception for damaged files
            raise CheckpointError(f"cannot read the tokenizer {path}: {error}") from error
        # Some files ask for a length and a padding token of their own; the layout here is the text encoder's.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, context_length)

    def with_context_length(self, length: int) -> Tokenizer:
        """The same words, padded and cut to another length."""
        return Tokenizer(self._tokenizer, length)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def pieces(self) -> dict[str, int]:
        """Every piece of a word that has an id, with it."""
        return self._tokenizer.get_vocab()

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        """Phrases -> (B, context_length) long, 0 = padding."""
        ids = torch.zeros(len(phrases), self.context_length, dtype=torch.long)
        for row, phrase in zip(ids, phrases, strict=True):
            pieces = self._tokenizer.encode(clean(phrase), add_special_tokens=False).ids
            tokens = [self.start_id, *pieces, self.end_id]
            if len(tokens) > self.context_length:
                tokens = [*tokens[: self.context_length - 1], self.end_id]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self._tokenizer.to_str(), encoding="utf-8")


def clean(phrase: str) -> str:
    """Mend garbled text, undo HTML escapes (twice, as CLIP does), join white space, lower-case."""
    mended = ftfy.fix_text(phrase)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(mended))).strip().lower()


def train_tokenizer(phrases: Sequence[str], vocab_size: int) -> FastTokenizer:
    """Byte-level BPE on the given phrases; every text can be encoded, id 0 is kept for padding."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = FastTokenizer(models.BPE(end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|padding|>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((clean(p) for p in phrases), trainer)
    return tokenizer
