"""Phrases to token ids: CLIP's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conceptseg.errors import CheckpointError
from conceptseg.models.text.tokenizer import END, START, Tokenizer, clean, train_tokenizer

PHRASES = ["red circle", "striped star", "small blue thing", "coin", "yellow school bus"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_tokenizer(PHRASES, vocab_size=300), context_length=8)


def test_a_phrase_is_start_pieces_end_and_zeros(tokenizer: Tokenizer) -> None:
    start, end = (tokenizer._tokenizer.token_to_id(t) for t in (START, END))
    ids = tokenizer(["coin", "red circle"])
    assert ids.shape == (2, 8) and ids.dtype == torch.long
    for row in ids.tolist():
        close = row.index(end)
        assert row[0] == start and close >= 2
        assert 0 not in row[:close] and set(row[close + 1 :]) <= {0}


def test_too_long_a_phrase_is_cut_and_still_closed(tokenizer: Tokenizer) -> None:
    end = tokenizer._tokenizer.token_to_id(END)
    long = tokenizer([" ".join(PHRASES * 500)])
    assert long.shape == (1, 8) and long[0, -1] == end
    assert (long[0, :-1] != end).all() and (long != 0).all()
    assert torch.equal(long[:, :-1], tokenizer([" ".join(PHRASES * 2)])[:, :-1])


def test_a_phrase_that_just_fits_is_not_cut(tokenizer: Tokenizer) -> None:
    wide = Tokenizer(tokenizer._tokenizer, context_length=int((tokenizer(["red circle"]) != 0).sum()))
    assert (wide(["red circle"])[0] != 0).all()
    assert torch.equal(wide(["red circle"])[0], tokenizer(["red circle"])[0, : wide.context_length])


def test_case_white_space_and_html_escapes_do_not_matter(tokenizer: Tokenizer) -> None:
    ids = tokenizer(["red circle", "  Red\t\n CIRCLE ", "red&amp;nbsp;circle"])
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[0], ids[2])
    assert clean("Salt &amp;amp; Pepper") == "salt & pepper"


def test_words_never_seen_are_still_encoded(tokenizer: Tokenizer) -> None:
    ids = tokenizer(["日本 ☃ zzz"])
    assert (ids[0] != 0).sum() == 8


def test_an_empty_phrase_is_start_and_end(tokenizer: Tokenizer) -> None:
    assert (tokenizer([""])[0] != 0).sum() == 2
    assert tokenizer([]).shape == (0, 8)


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", context_length=8)
    assert torch.equal(loaded(PHRASES), tokenizer(PHRASES))
    assert loaded.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("content", [None, "", "{", '{"version": "1.0"}', "\x00\x01"])
def test_a_damaged_or_missing_tokenizer_is_a_checkpoint_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        Tokenizer.load(path, context_length=8)


def test_a_tokenizer_without_start_and_end_is_refused() -> None:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.models import BPE

    with pytest.raises(CheckpointError, match="startoftext"):
        Tokenizer(FastTokenizer(BPE()), context_length=8)


def test_another_context_length_pads_and_cuts_the_same_pieces(tokenizer: Tokenizer) -> None:
    ids, longer, shorter = (
        tokenizer.with_context_length(length)(["red circle", "coin"]) for length in (8, 12, 4)
    )
    assert torch.equal(ids, tokenizer(["red circle", "coin"]))
    assert torch.equal(longer[:, :8], ids) and not longer[:, 8:].any()
    assert torch.equal(shorter[:, :3], ids[:, :3]) and shorter.shape == (2, 4)
