"""What training scenes are asked, and what the right answers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from conceptseg.data.batch import Question
from conceptseg.data.question_config import KINDS, QuestionConfig
from conceptseg.data.scene_questions import UNKNOWN_THINGS, VISUAL, QuestionMaker
from conceptseg.data.scenes import Scene, SceneObject, render_scene
from conceptseg.errors import ConfigError

DRAWS = 60
Box = tuple[float, float, float, float]


def only(kind: str, **changes: float) -> QuestionMaker:
    """Asks one kind of question; example boxes are exact unless told otherwise."""
    shares = {name: float(name == kind) for name in KINDS}
    return QuestionMaker(QuestionConfig(**{"box_noise": 0.0, **shares, **changes}))


def thing(family: str, box_xyxy: Box) -> SceneObject:
    pattern, color, kind = family.split()
    mask = np.zeros((64, 64), dtype=bool)
    x0, y0, x1, y1 = map(int, box_xyxy)
    mask[y0:y1, x0:x1] = True
    return SceneObject(
        kind, color, None if pattern == "plain" else pattern, None, family, mask, box_xyxy, 1.0
    )


RED_CIRCLES, BLUE_CIRCLE, RED_SQUARE = [0, 1], [2], [3]


def scene(shift: float = 0.0) -> Scene:
    """Two red circles, a blue circle and a red square; `shift` moves them, to tell scenes apart."""
    families = ["plain red circle", "plain red circle", "plain blue circle", "plain red square"]
    corners = [(2, 2), (30, 2), (2, 30), (30, 30)]
    boxes = [(x + shift, y + shift, x + shift + 20, y + shift + 16) for x, y in corners]
    return Scene(
        image=np.zeros((64, 64, 3), np.uint8),
        objects=[thing(family, box) for family, box in zip(families, boxes, strict=True)],
        phrases={"circle": [0, 1, 2], "red thing": [0, 1, 3], "red circle": [0, 1], "square": [3]},
        absent_phrases=["green circle", "star"],
        families={
            "plain red circle": RED_CIRCLES,
            "plain blue circle": BLUE_CIRCLE,
            "plain red square": RED_SQUARE,
        },
        greyscale=False,
        sizes_clear=False,
        theme=0,
    )


def asked(
    maker: QuestionMaker, scenes: list[Scene] | None = None, image: int = 0, draws: int = DRAWS
) -> Iterator[Question]:
    for seed in range(draws):
        yield maker.ask(scenes or [scene()], image, np.random.default_rng(seed))


def under(question: Question, scenes: list[Scene], label: int) -> list[int]:
    """Indices of the objects under the question's boxes of this label."""
    boxes = [it.box_xyxy for it in scenes[question.exemplar_image].objects]
    pairs = zip(question.boxes_xyxy, question.labels, strict=True)
    return [boxes.index(box) for box, own in pairs if own == label]


def test_a_phrase_is_asked_with_all_that_it_names() -> None:
    one = scene()
    seen = set()
    for question in asked(only("phrase")):
        assert question.objects == one.phrases[question.phrase]
        assert question.boxes_xyxy == question.labels == []
        seen.add(question.phrase)
    assert seen == set(one.phrases)


def test_an_absent_phrase_has_no_objects() -> None:
    for question in asked(only("absent_phrase", unknown_share=0.0)):
        assert question.objects == [] and question.boxes_xyxy == []
        assert question.phrase in scene().absent_phrases


def test_unknown_words_are_absent_too() -> None:
    for question in asked(only("absent_phrase", unknown_share=1.0)):
        assert question.objects == [] and question.phrase in UNKNOWN_THINGS


def test_what_cannot_be_asked_gives_way_to_a_phrase_and_that_to_an_unknown_word() -> None:
    bare = replace(scene(), absent_phrases=[])
    for question in asked(only("absent_phrase", unknown_share=0.0), [bare]):
        assert question.objects == bare.phrases[question.phrase]
    empty = replace(scene(), objects=[], phrases={}, families={}, absent_phrases=[])
    for question in asked(only("phrase"), [empty]):
        assert question.objects == [] and question.phrase in UNKNOWN_THINGS


def test_the_objects_of_an_exemplar_question_are_exactly_the_family_under_its_boxes() -> None:
    one = scene()
    counts = set()
    for question in asked(only("boxes"), [one]):
        positives = under(question, [one], 1)
        families = {one.objects[i].family for i in positives}
        assert len(families) == 1
        assert question.objects == one.families[families.pop()]
        assert question.phrase == VISUAL
        counts.add(len(positives))
    assert counts == {1, 2}


def test_negative_boxes_of_an_exemplar_question_lie_on_other_families() -> None:
    one, some = scene(), 0
    for question in asked(only("boxes"), [one]):
        negatives = under(question, [one], 0)
        assert not set(negatives) & set(question.objects)
        some += bool(negatives)
    assert 0 < some < DRAWS


def test_a_negative_box_takes_its_family_out_of_what_a_phrase_names() -> None:
    one, narrowed = scene(), 0
    for question in asked(only("phrase_and_boxes"), [one]):
        negatives = under(question, [one], 0)
        out = {i for j in negatives for i in one.families[one.objects[j].family]}
        named = one.phrases[question.phrase]
        assert set(negatives) <= set(named)
        assert question.objects == [i for i in named if i not in out]
        assert question.objects, "something is left to be found"
        narrowed += bool(negatives)
    assert 0 < narrowed < DRAWS


def test_positive_boxes_beside_a_phrase_lie_on_what_it_names() -> None:
    one = scene()
    for question in asked(only("phrase_and_boxes"), [one]):
        assert set(under(question, [one], 1)) <= set(question.objects)
        assert question.boxes_xyxy


def test_cross_image_questions_take_their_boxes_from_the_neighbouring_scene() -> None:
    scenes = [scene(), scene(5), scene(9), scene(11)]
    for image, beside in ((0, 1), (1, 0), (2, 3), (3, 2)):
        for question in asked(only("other_image"), scenes, image, draws=20):
            assert (question.image, question.exemplar_image, question.phrase) == (image, beside, VISUAL)
            family = {scenes[beside].objects[i].family for i in under(question, scenes, 1)}
            assert question.objects == scenes[image].families[family.pop()] and not family
            assert set(question.labels) == {1}


def test_a_family_that_only_the_neighbour_has_is_absent_here() -> None:
    here = scene()
    other = replace(scene(), objects=[thing("striped green star", (4, 4, 20, 20))])
    other = replace(other, families={"striped green star": [0]})
    for question in asked(only("other_image"), [here, other], draws=10):
        assert question.exemplar_image == 1 and question.objects == []


def test_a_look_that_could_pass_for_the_neighbours_is_not_asked_across_images() -> None:
    """A scene whose circles have fewer words to their name may show the same look."""
    here = replace(scene(), families={"circle": [0, 1, 2]}, phrases={"circle": [0, 1, 2]})
    other = replace(scene(), families={"plain red circle": RED_CIRCLES})
    for question in asked(only("other_image"), [here, other], draws=10):
        assert (question.exemplar_image, question.boxes_xyxy, question.phrase) == (0, [], "circle")


def test_without_a_neighbour_a_phrase_is_asked() -> None:
    for question in asked(only("other_image"), [scene()], draws=10):
        assert question.exemplar_image == 0 and question.phrase in scene().phrases


def test_every_question_about_drawn_scenes_is_consistent() -> None:
    scenes = [render_scene(seed, size=96, theme=seed // 2) for seed in range(4)]
    maker = QuestionMaker(QuestionConfig(box_noise=0.3))
    for image in range(4):
        for question in asked(maker, scenes, image, draws=40):
            assert question.image == image
            assert set(question.objects) <= set(range(len(scenes[image].objects)))
            assert len(question.objects) == len(set(question.objects))
            for x0, y0, x1, y1 in question.boxes_xyxy:
                assert 0 <= x0 and 0 <= y0 and x1 <= 96 and y1 <= 96
                assert x1 - x0 >= 1 and y1 - y0 >= 1


def test_a_sliver_at_the_border_keeps_its_box_inside_the_image() -> None:
    sliver = replace(scene(), objects=[thing("plain red circle", (63, 63, 64, 64))])
    sliver = replace(sliver, families={"plain red circle": [0]}, phrases={})
    for question in asked(only("boxes", box_noise=0.3), [sliver]):
        ((x0, y0, x1, y1),) = question.boxes_xyxy
        assert 62 <= x0 <= x1 - 1 <= 63 and 62 <= y0 <= y1 - 1 <= 63


def test_noise_moves_a_side_by_at_most_fifteen_percent_of_the_box() -> None:
    one = scene(6)
    for question in asked(only("boxes", box_noise=0.3), [one]):
        for box in question.boxes_xyxy:
            offsets = [np.abs(np.subtract(box, it.box_xyxy)) / (20, 16, 20, 16) for it in one.objects]
            assert min(offset.max() for offset in offsets) <= 0.15 + 1e-9


def test_the_same_generator_asks_the_same_question() -> None:
    maker = QuestionMaker(QuestionConfig())
    scenes = [scene(), scene(5)]
    assert list(asked(maker, scenes)) == list(asked(maker, scenes))


def test_kinds_are_asked_in_their_shares() -> None:
    maker = QuestionMaker(
        QuestionConfig(phrase=1, absent_phrase=3, boxes=0, phrase_and_boxes=0, other_image=0)
    )
    absent = sum(not question.objects for question in asked(maker, draws=400))
    assert absent / 400 == pytest.approx(0.75, abs=0.07)


def test_a_noun_alone_can_be_asked_for_more_often() -> None:
    drawn, nouns = (
        sum(len(question.phrase.split()) == 1 for question in asked(only("phrase", **changes), draws=200))
        for changes in ({}, {"noun_share": 1.0})
    )
    assert nouns == 200 and 70 < drawn < 130  # two of the four phrases are nouns


def test_a_scene_without_a_bare_noun_is_asked_what_there_is() -> None:
    one = replace(scene(), phrases={"red thing": RED_CIRCLES})
    assert {q.phrase for q in asked(only("phrase", noun_share=1.0), [one])} == {"red thing"}


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="noun_share is 1.5; give a share from 0 to 1"):
        QuestionConfig(noun_share=1.5)


@pytest.mark.parametrize("shares", [{"phrase": -0.1}, dict.fromkeys(KINDS, 0.0)])
def test_shares_that_ask_nothing_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="shares of the question kinds"):
        QuestionConfig(**shares)
