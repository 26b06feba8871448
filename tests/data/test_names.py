from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conceptseg.data.names import Names
from conceptseg.errors import ConfigError

TABLE = """
synonyms: [[motorcycle, motorbike], [dog, hound]]
broader: {animal: [dog, crab, lobster], dog: [dalmatian], vehicle: [motorcycle]}
unclear: [[crab, lobster]]
everywhere: [person]
plurals: {person: people}
"""


@pytest.fixture
def names(tmp_path: Path) -> Names:
    path = tmp_path / "names.yaml"
    path.write_text(TABLE)
    return Names.read(path)


def test_wider_words_are_true_and_narrower_ones_are_unclear(names: Names) -> None:
    assert names.true_of("dalmatian") == {"dalmatian", "dog", "hound", "animal"}
    assert names.true("animal", "dalmatian") is True
    assert names.true("dalmatian", "dog") is None
    assert names.true("vehicle", "dog") is False


def test_a_synonym_is_true_and_a_lookalike_is_unclear(names: Names) -> None:
    assert names.true("motorbike", "motorcycle") is True
    assert names.true("lobster", "crab") is None and names.true("crab", "lobster") is None
    assert names.true("crab", "dog") is False


def test_surely_absent_is_what_is_false_of_everything_there(names: Names) -> None:
    asked = ["crab", "lobster", "animal", "motorbike", "dalmatian"]
    assert names.surely_absent(asked, ["crab"]) == ["motorbike", "dalmatian"]
    assert names.surely_absent(asked, ["crab", "motorcycle"]) == ["dalmatian"]


def test_kin_share_a_wider_name(names: Names) -> None:
    assert names.kin(["crab", "motorcycle", "teapot"], ["dog", "teapot"]) == ["crab"]
    assert names.kin(["crab"], ["motorcycle"]) == []


def test_a_name_outside_the_table_means_itself(names: Names) -> None:
    assert names.true("teapot", "teapot") is True and names.true("teapot", "dog") is False


@pytest.mark.parametrize(
    ("name", "plural"), [("person", "people"), ("polo shirt", "polo shirts"), ("tall person", "tall people")]
)
def test_plurals(names: Names, name: str, plural: str) -> None:
    assert names.plural(name) == plural


def test_what_is_said_is_always_a_name_of_the_thing(names: Names) -> None:
    said = {names.spoken("motorcycle", 2, np.random.default_rng(seed)) for seed in range(900)}
    assert said == {
        "motorcycle", "motorbike", "motorcycles", "motorbikes", "a motorcycle", "a motorbike"
    }  # fmt: skip
    assert all("s" not in names.spoken("dog", 1, np.random.default_rng(seed)) for seed in range(99))


def test_the_packaged_table_contradicts_itself_nowhere() -> None:
    names = Names.read()
    for name in names.every_word():
        assert names.true(name, name) is True
        assert not names.true_of(name) & names.doubtful_of(name)
    assert names.true("animal", "dalmatian") is True and names.true("cup", "bottle") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synonims: []", "mapping with some of"),
        ("synonyms: {a: b}", "lists of names"),
        ("synonyms: [[1, 2]]", "lists of names"),
        ("- a", "mapping with some of"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Names.read(path)
