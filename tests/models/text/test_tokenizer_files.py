"""CLIP's tokenizer, from each form in which it is stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from conceptseg.errors import CheckpointError
from conceptseg.models.text.tokenizer import END, START
from conceptseg.models.text.tokenizer_files import (
    ORIGINAL,
    ORIGINAL_LIMIT,
    byte_symbols,
    read_tokenizer,
)
from tests.models.text.clip_files import CORPUS, known, learn, write_json, write_original, write_vocabulary


@pytest.fixture(scope="module")
def learned() -> tuple[dict[str, int], list[tuple[str, str]]]:
    return learn()


def test_the_three_forms_give_the_same_ids(learned, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("json", "vocabulary", "original")]
    for folder in folders:
        folder.mkdir()
    write_json(folders[0], *learned)
    write_vocabulary(folders[1], *learned)
    write_original(folders[2], learned[1])
    tokenizers = [read_tokenizer(folder, 32) for folder in folders]
    for tokenizer in tokenizers:
        assert tokenizer is not None and tokenizer.vocab_size == len(learned[0])
        assert torch.equal(tokenizer(CORPUS), tokenizers[0](CORPUS))
    assert read_tokenizer(tmp_path, 32) is None


def test_the_original_file_counts_ids_as_clip_does(learned, tmp_path: Path) -> None:
    write_original(tmp_path, learned[1])
    tokenizer = read_tokenizer(tmp_path, 8)
    ids = tokenizer(["!", "a"])
    size = tokenizer.vocab_size
    assert ids[:, 0].tolist() == [size - 2] * 2 and ids[:, 2].tolist() == [size - 1] * 2
    assert ids[0, 1] == 256 and ids[1, 1] == 256 + ord("a") - ord("!")  # each is also the end of its word
    assert byte_symbols()[0] == "!" and len(set(byte_symbols())) == len(byte_symbols()) == 256


def test_phrases_have_the_ids_that_clips_own_vocabulary_gives_them(tmp_path: Path) -> None:
    merges, ids = known()
    write_original(tmp_path, merges)  # more than CLIP was trained with, as in the real file
    tokenizer = read_tokenizer(tmp_path, 77)
    assert tokenizer.vocab_size == 49408
    assert ids["a red car"] == [49406, 320, 736, 1615, 49407]
    found = tokenizer(list(ids)).tolist()
    assert [row[: row.index(49407) + 1] for row in found] == list(ids.values())


def test_tokenizer_json_comes_first(learned, tmp_path: Path) -> None:
    write_json(tmp_path, *learned)
    (tmp_path / ORIGINAL).write_bytes(b"damaged")
    assert read_tokenizer(tmp_path, 8).vocab_size == len(learned[0])


def test_a_length_and_padding_of_the_file_do_not_matter(learned, tmp_path: Path) -> None:
    tokenizer = write_json(tmp_path, *learned)
    plain = read_tokenizer(tmp_path, 32)(CORPUS)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=77, pad_id=5, pad_token="!")
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    assert torch.equal(read_tokenizer(tmp_path, 32)(CORPUS), plain)


@pytest.mark.parametrize(
    "content",
    [
        b"text, not gzip",
        gzip.compress(b"#version\na b\nno merge at all\n", mtime=0),
        gzip.compress(b"#version\na b\n\xff\xfe c\n", mtime=0),
        gzip.compress(b"#version\nzz yy\n", mtime=0),
        gzip.compress(b"#version\na b\n" * 100, mtime=0)[:20],
    ],
)
def test_a_damaged_original_file_is_a_checkpoint_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ORIGINAL).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"cannot read the tokenizer .*{ORIGINAL}"):
        read_tokenizer(tmp_path, 8)


def test_an_original_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / ORIGINAL).write_bytes(gzip.compress(bytes(ORIGINAL_LIMIT + 1), compresslevel=1, mtime=0))
    with pytest.raises(CheckpointError, match="unpacks to more than 64 MB"):
        read_tokenizer(tmp_path, 8)


@pytest.mark.parametrize("vocabulary", ["", "[]", "{", '{"a": "b"}', '{"a": 0}'])
def test_a_damaged_vocabulary_is_a_checkpoint_error(tmp_path: Path, vocabulary: str) -> None:
    (tmp_path / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="vocab.json"):
        read_tokenizer(tmp_path, 8)


def test_a_vocabulary_whose_merges_are_not_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({START: 0, END: 1, "a": 2}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        read_tokenizer(tmp_path, 8)
