"""What is asked while fine-tuning, and which words name nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from conceptseg.data.absent_phrases import RARE_THINGS
from conceptseg.data.absent_words import PLAIN_THINGS, AbsentWords, told_absent
from conceptseg.data.annotated_view import AnnotatedView
from conceptseg.data.batch import Question
from conceptseg.data.collate import PreparedImage
from conceptseg.data.concept_questions import Questioner, narrowest
from conceptseg.data.question_config import AskConfig
from conceptseg.errors import ConfigError
from conceptseg.prompts import VISUAL

PHRASES = ("red blood cell", "platelet")
ONLY = {"phrase": 0.0, "absent_phrase": 0.0, "boxes": 0.0, "phrase_and_boxes": 0.0, "other_image": 0.0}


def seen(phrases: dict[str, list[int]], absent: tuple[str, ...] = ()) -> AnnotatedView:
    count = sum(len(numbers) for numbers in phrases.values())
    boxes = torch.tensor([[0.1 * i, 0.2, 0.1 * i + 0.08, 0.3] for i in range(count)]).view(-1, 4)
    blank = torch.zeros(3, 4, 4, dtype=torch.uint8)
    masks = torch.zeros(count, 2, 2, dtype=torch.bool)
    prepared = PreparedImage(blank, boxes, (1.0, 1.0), masks, torch.zeros(count, dtype=torch.bool))
    return AnnotatedView(prepared, phrases, list(absent))


IMAGES = [
    seen({"red blood cell": [0, 1, 2], "platelet": [3]}),
    seen({"red blood cell": [0, 1]}, ("platelet",)),
]
EMPTY = seen({}, ("platelet",))


def asked(images: list[AnnotatedView], image: int = 0, count: int = 40, **shares: float) -> list[Question]:
    maker = Questioner(AskConfig(**{**ONLY, **shares}), AbsentWords(PHRASES))
    rng = np.random.default_rng(0)
    return [maker.ask(images, image, rng) for _ in range(count)]


def test_a_phrase_is_asked_for_all_its_objects() -> None:
    questions = asked(IMAGES, phrase=1.0)
    assert {q.phrase: tuple(q.objects) for q in questions} == {"red blood cell": (0, 1, 2), "platelet": (3,)}
    assert not any(q.boxes_xyxy for q in questions)


def test_an_absent_phrase_has_no_object_and_may_be_another_category() -> None:
    questions = asked(IMAGES, image=1, count=100, absent_phrase=1.0)
    assert all(q.objects == [] for q in questions)
    words = Counter(q.phrase for q in questions)
    assert 30 < words["platelet"] < 70  # half of them
    assert "red blood cell" not in words


def test_an_image_without_objects_is_asked_for_what_is_absent_whatever_the_kind() -> None:
    for kind in ONLY:
        for question in asked([EMPTY, IMAGES[0]], count=8, **{kind: 1.0}):
            assert question.objects == []


def test_example_boxes_ask_for_everything_of_their_phrase() -> None:
    for question in asked(IMAGES, boxes=1.0):
        assert question.phrase == VISUAL and question.exemplar_image == 0
        assert question.objects in ([0, 1, 2], [3])
        assert 1 <= sum(question.labels) <= 3
        assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in question.boxes_xyxy)


def test_negative_boxes_lie_on_objects_of_another_phrase() -> None:
    with_negatives = [q for q in asked(IMAGES, phrase_and_boxes=1.0) if 0 in q.labels]
    assert with_negatives
    for question in with_negatives:
        assert question.phrase in PHRASES and question.labels[-1] == 0


def test_boxes_on_the_image_beside_ask_for_the_same_phrase_here_or_for_nothing() -> None:
    here = {tuple(q.objects) for q in asked(IMAGES, image=0, other_image=1.0)}
    assert here == {(0, 1, 2)}  # no platelet shows beside
    there = asked(IMAGES, image=1, other_image=1.0)
    assert {tuple(q.objects) for q in there} == {(0, 1), ()}  # of the platelet there is none here
    assert all(q.exemplar_image == 0 for q in there)


def test_near_words_keep_all_but_the_noun_and_are_no_category() -> None:
    words = AbsentWords((*PHRASES, "red blood cactus"))
    rng = np.random.default_rng(0)
    drawn = {words.draw([], rng) for _ in range(300)}
    near = {phrase for phrase in drawn if phrase.startswith("red blood ")}
    assert near and "red blood cactus" not in drawn and "red blood cell" not in drawn
    assert drawn - near <= set(PLAIN_THINGS)


def test_words_of_the_data_are_never_drawn_as_absent() -> None:
    words = AbsentWords(("fire hydrant", "green parrot"))
    rng = np.random.default_rng(0)
    drawn = {words.draw([], rng) for _ in range(500)}
    assert "fire hydrant" not in drawn and "parrot" not in drawn


def test_what_evaluation_asks_for_data_without_absent_phrases_is_not_trained() -> None:
    assert not set(PLAIN_THINGS) & set(RARE_THINGS)
    assert told_absent(["windmill", "dog"], ["dog", "cat"]) == ["dog"]


def test_shares_that_ask_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="not all zero"):
        AskConfig(**ONLY)


NESTED = {"fruit": [0, 1, 2], "apple": [0, 1], "red apple": [0, 1], "yellow fruit": [2], "thing": [0, 1, 2]}


def test_an_example_box_alone_means_the_narrowest_phrase() -> None:
    assert narrowest(NESTED) == ["red apple", "yellow fruit"]
    assert narrowest({"platelet": [3], "red blood cell": [0, 1]}) == ["platelet", "red blood cell"]
    nested = AnnotatedView(IMAGES[0].prepared, NESTED, [])
    questions = asked([nested, nested], boxes=1.0) + asked([nested, nested], other_image=1.0)
    assert {tuple(q.objects) for q in questions} == {(0, 1), (2,)}


def test_a_negative_box_is_on_nothing_that_is_wanted() -> None:
    nested = AnnotatedView(IMAGES[0].prepared, NESTED, [])
    questions = asked([nested], count=100, phrase_and_boxes=1.0)
    assert any(0 in q.labels for q in questions)
    assert not any(0 in q.labels for q in questions if len(q.objects) == 3)  # all are wanted
