"""A small vocabulary of CLIP's kind, made here, in each of the forms in which CLIP's own is stored.

`clip_known.json` holds what CLIP's own says of a few phrases: their ids, as its code gives them, and by
number every merge of its 262,144 that any step of theirs could take.
"""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, trainers

from conceptseg.models.text.tokenizer import END, START
from conceptseg.models.text.tokenizer_files import ORIGINAL, WORD_END, byte_symbols, clip_tokenizer

CORPUS = (
    "a photo of the red circle and the yellow school bus on the left of a striped star",
    "people's shoes, the dog's collar, they're running, we'll see, it's 1984 in the 21st century",
    "café naïve über señor façade Straße smörgåsbord Ångström",
    "红色的圆圈 黄色的校车 一只小猫 日本の猫 고양이 красный круг κόκκινος κύκλος",
    "😀 🚌 👩‍🚀 ❤️ 🇯🇵 ... !!! ??? (left) [right] {both} <tag> 50% #1 @home $5 & more",
)


def learn(pieces: int = 400) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) in CLIP's order: bytes, bytes that end a word, merges, start, end."""
    symbols = byte_symbols()
    base = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    learner = clip_tokenizer({START: 0, END: 1}, [])
    learner.model = models.BPE(end_of_word_suffix=WORD_END)
    trainer = trainers.BpeTrainer(
        vocab_size=len(base) + pieces,
        initial_alphabet=symbols,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(CORPUS * 3, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    names = list(dict.fromkeys([*base, *("".join(pair) for pair in merges), START, END]))
    return {name: number for number, name in enumerate(names)}, merges


def known() -> tuple[list[tuple[str, str]], dict[str, list[int]]]:
    """(merges, ids by phrase): CLIP's own merges at their places, between others that change nothing."""
    values = json.loads(Path(__file__).with_name("clip_known.json").read_text(encoding="utf-8"))
    own = {int(number): tuple(pair.split()) for number, pair in values["merges"].items()}
    # Bytes that none of the phrases has, in all combinations: 51,842.
    unused = [symbol for symbol in byte_symbols() if ord(symbol) > ord("~") and symbol != "Ã"]
    ends = [*unused, *(symbol + WORD_END for symbol in unused)]
    others = itertools.product(unused, ends)
    merges = [own[number] if number in own else next(others) for number in range(50_000)]
    return merges, values["ids"]


def write_json(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> FastTokenizer:
    tokenizer = clip_tokenizer(vocabulary, merges)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    return tokenizer


def write_vocabulary(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text(_merges_text(merges), encoding="utf-8")


def write_original(folder: Path, merges: list[tuple[str, str]]) -> None:
    (folder / ORIGINAL).write_bytes(gzip.compress(_merges_text(merges).encode()))


def _merges_text(merges: list[tuple[str, str]]) -> str:
    return "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""])
