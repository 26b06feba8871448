"""Token ids equal those of `transformers`' CLIPTokenizer, given the same vocabulary.

The standard is the original code of SAM 3, which mends text before it encodes it; `transformers` does not.
Phrases with nothing to mend therefore agree as they are, and the others once they are mended.
"""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from conceptseg.models.text.tokenizer import Tokenizer, clean
from conceptseg.models.text.tokenizer_files import read_tokenizer
from tests.models.text.clip_files import learn, write_original

WORDS = (
    "red circle yellow School BUS striped star dog cat person's they're we'll it's 3rd A4 1984 x y2k".split()
)
ACCENTS = (
    "café naïve ÜBER señor Straße smörgåsbord Ångström cafe\u0301 A\u030angstro\u0308m İstanbul ſ".split()
)
SCRIPTS = (
    "红色的圆圈 黄色的校车 一只小猫 三個蘋果 日本の猫 カタカナ 고양이 "
    "красный круг κύκλος כלב قطة हिन्दी कुत्ता ไทย"
).split()
EMOJI = "😀 🚌 👩‍🚀 ❤️ 🇯🇵 👍🏽 ☃ ✂️ ♻ 🐈‍⬛".split()
PUNCTUATION = (
    "! !! !!! ... ? , ; : - -- _ ( ) [x] {y} <z> / \\ | # @ $5 50% ^ ~ * + = `code` a/b x-y 'quoted' "
    '"said" & • — – · § © ™ € ½ ² №'
).split()
SPACES = (" ", "  ", "\t", "\n", " \u00a0 ", "\u2003", "")


def varied_phrases(count: int, seed: int = 0) -> list[str]:
    """Words, accents, scripts, emoji and punctuation in any mixture; every tenth phrase is over-long."""
    draw = random.Random(seed)
    pools = (WORDS, WORDS, ACCENTS, SCRIPTS, EMOJI, PUNCTUATION)
    phrases = []
    for number in range(count):
        length = draw.randint(90, 150) if number % 10 == 0 else draw.randint(1, 9)
        parts = [draw.choice(draw.choice(pools)) + draw.choice(SPACES) for _ in range(length)]
        phrases.append("".join(parts))
    return phrases


MENDED = {
    "woman’s “red” hat": 'woman\'s "red" hat',
    "ＲＥＤ　１２３，猫！": "red 123,猫!",
    "ﬁsh and ﬂowers": "fish and flowers",
    "cafÃ© naÃ¯ve": "café naïve",
    "salt &amp;amp; pepper": "salt & pepper",
    "&lt;b&gt; bold": "<b> bold",
    "a\x00b\x1b[0m c": "ab c",
    "ΟΔΟΣ": "οδος",  # the last letter; `transformers` lowers letter by letter
}


@pytest.fixture(scope="module")
def learned() -> tuple[dict[str, int], list[tuple[str, str]]]:
    return learn(600)


@pytest.fixture(scope="module")
def ours(learned, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Tokenizer]:
    folder: Path = tmp_path_factory.mktemp("original")
    write_original(folder, learned[1])

    def tokenizer(context_length: int) -> Tokenizer:
        read = read_tokenizer(folder, context_length)
        assert read is not None
        return read

    return tokenizer


@pytest.fixture(scope="module")
def theirs(learned) -> Callable[[list[str], int], Tensor]:
    reference = CLIPTokenizer(vocab=learned[0], merges=learned[1])

    def ids(phrases: list[str], context_length: int) -> Tensor:
        rows = reference(phrases, truncation=True, max_length=context_length)["input_ids"]
        return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])

    return ids


@pytest.mark.parametrize("context_length", [16, 32, 77])
def test_a_thousand_varied_phrases_have_the_same_ids(ours, theirs, context_length: int) -> None:
    phrases = varied_phrases(1000)
    expected = theirs(phrases, context_length)
    found = ours(context_length)(phrases)
    different = [p for p, a, b in zip(phrases, found, expected, strict=True) if not torch.equal(a, b)]
    assert different == []
    full = (expected[:, -1] != 0).sum()
    assert 100 <= full < 1000  # some are cut, some are not


def test_phrases_that_the_original_code_mends_have_the_ids_of_the_mended(ours, theirs) -> None:
    assert {phrase: clean(phrase) for phrase in MENDED} == MENDED
    assert torch.equal(ours(32)(list(MENDED)), theirs(list(MENDED.values()), 32))
    assert not (ours(32)(list(MENDED)) == theirs(list(MENDED), 32)).all(dim=1).any()


def test_cleaning_is_done_once_and_for_all() -> None:
    for phrase in (*varied_phrases(200, seed=1), *MENDED):
        assert clean(clean(phrase)) == clean(phrase)
        assert html.unescape(clean(phrase)) == clean(phrase)
