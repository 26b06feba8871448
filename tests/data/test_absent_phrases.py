"""Which phrases are said to name nothing in an image."""

from __future__ import annotations

from collections import Counter

from conceptseg.data.absent_phrases import RARE_THINGS, sample_absent

ANIMALS = ["bird", "cat", "cow", "dog", "horse", "sheep"]


def test_absent_phrases_are_other_categories() -> None:
    absent = sample_absent("a.jpg", ["cat", "dog"], ANIMALS, 3)
    assert len(set(absent)) == 3
    assert set(absent) < set(ANIMALS) - {"cat", "dog"}


def test_all_others_are_taken_when_there_are_fewer() -> None:
    assert sample_absent("a.jpg", ["cat", "dog", "cow", "bird"], ANIMALS, 3) == ("horse", "sheep")


def test_the_name_of_the_image_decides() -> None:
    assert sample_absent("a.jpg", ["cat"], ANIMALS, 3) == sample_absent("a.jpg", ["cat"], ANIMALS, 3)
    assert len({sample_absent(f"{i}.jpg", ["cat"], ANIMALS, 3) for i in range(50)}) > 5


def test_every_category_gets_its_turn() -> None:
    counts = Counter(phrase for i in range(600) for phrase in sample_absent(f"{i}.jpg", ["cat"], ANIMALS, 2))
    assert set(counts) == set(ANIMALS) - {"cat"}
    assert 180 < min(counts.values()) and max(counts.values()) < 300  # 240 each on average


def test_an_image_that_shows_every_category_is_asked_for_rare_things() -> None:
    absent = sample_absent("a.jpg", ["nucleus"], ["nucleus"], 3)
    assert len(absent) == 3 and set(absent) < set(RARE_THINGS)


def test_no_rare_thing_shares_a_word_with_the_data() -> None:
    absent = sample_absent("a.jpg", ["weather balloon"], ["weather balloon"], len(RARE_THINGS))
    assert len(absent) == len(RARE_THINGS) - 1
    assert "hot air balloon" not in absent


def test_none_are_sampled_when_none_are_wanted() -> None:
    assert sample_absent("a.jpg", ["cat"], ANIMALS, 0) == ()
