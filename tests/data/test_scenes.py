"""Procedural scenes: the same everywhere, exact masks, phrases that are true, absent ones that are not."""

from __future__ import annotations

import colorsys
import hashlib
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from conceptseg.data.scenes import Scene, SceneObject, render_scene
from conceptseg.data.scenes.colors import HSV_RANGES
from conceptseg.data.scenes.kinds import GENERAL_NOUNS, KINDS, NOUNS, SHAPE_KINDS, is_reserved
from conceptseg.data.scenes.phrases import Words, parse, plural, vocabulary
from conceptseg.errors import OptionError

COUNT = 60
SIZE = 96  # pixels; enough for every look, and fast


@lru_cache(maxsize=8)
def scenes(split: str = "train", difficulty: float = 1.0, count: int = COUNT) -> tuple[Scene, ...]:
    return tuple(render_scene(seed, size=SIZE, difficulty=difficulty, split=split) for seed in range(count))


def digest(scene: Scene) -> str:
    sha = hashlib.sha256(scene.image.tobytes())
    for it in scene.objects:
        sha.update(it.mask.tobytes())
    sha.update(repr((scene.phrases, scene.absent_phrases, scene.families)).encode())
    return sha.hexdigest()


def names(words: Words, it: SceneObject) -> bool:
    """Whether a phrase is true of an object, worked out from its attributes alone."""
    return (
        (words.noun in GENERAL_NOUNS or it.kind in NOUNS[words.noun])
        and (words.color is None or words.color == it.color)
        and (words.pattern is None or words.pattern == (it.pattern or "plain"))
        and (words.size is None or words.size == it.size)
    )


def test_the_same_arguments_give_the_same_scene_in_another_process() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from tests.data.test_scenes import digest, render_scene\n"
        "print(*(digest(render_scene(s, size=96, theme=s, difficulty=0.8)) for s in range(6)))"
    )
    root = Path(__file__).resolve().parents[2]
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(root), str(root / "src")],
            env={"PYTHONHASHSEED": salt, "PATH": "", "OMP_NUM_THREADS": salt},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [
            digest(render_scene(s, size=96, theme=s, difficulty=0.8)) for s in range(6)
        ]


def test_seed_split_and_difficulty_change_the_scene() -> None:
    base = digest(render_scene(3, size=SIZE))
    assert base == digest(render_scene(3, size=SIZE))
    for other in (
        render_scene(4, size=SIZE),
        render_scene(3, size=SIZE, split="held_out"),
        render_scene(3, size=SIZE, split="unseen"),
        render_scene(3, size=SIZE, difficulty=0.5),
        render_scene(3, size=SIZE, theme=1),
    ):
        assert digest(other) != base


@pytest.mark.parametrize("size", [64, 100, 256, 300])
def test_scenes_have_the_size_that_was_asked_for(size: int) -> None:
    scene = render_scene(5, size=size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert all(it.mask.shape == (size, size) and it.mask.dtype == bool for it in scene.objects)


@pytest.mark.parametrize("split", ["train", "held_out", "unseen"])
def test_boxes_are_tight_around_masks_and_masks_do_not_overlap(split: str) -> None:
    for scene in scenes(split):
        assert 1 <= len(scene.objects) <= 40
        assert np.sum([it.mask for it in scene.objects], axis=0).max() == 1
        for it in scene.objects:
            rows, columns = np.nonzero(it.mask)
            assert it.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_no_object_is_mostly_hidden() -> None:
    for scene in scenes():
        for it in scene.objects:
            assert 0.25 <= it.visible <= 1.0
            assert np.count_nonzero(it.mask) >= 3


@pytest.mark.parametrize("split", ["train", "held_out", "unseen"])
def test_phrases_name_all_objects_they_are_true_of_and_no_other(split: str) -> None:
    for scene in scenes(split):
        assert scene.phrases
        for phrase, members in scene.phrases.items():
            words = parse(phrase)
            assert members == [i for i, it in enumerate(scene.objects) if names(words, it)], phrase


@pytest.mark.parametrize("split", ["train", "held_out", "unseen"])
def test_absent_phrases_name_nothing_and_are_no_present_phrase(split: str) -> None:
    for scene in scenes(split):
        assert 3 <= len(scene.absent_phrases) <= 12
        assert len(set(scene.absent_phrases)) == len(scene.absent_phrases)
        for phrase in scene.absent_phrases:
            words = parse(phrase)
            assert not any(names(words, it) for it in scene.objects), phrase
            assert phrase not in scene.phrases


def test_most_scenes_have_an_absent_phrase_one_word_away_from_a_true_one() -> None:
    def close(first: Words, second: Words) -> bool:
        a = (first.noun, first.color, first.pattern, first.size)
        b = (second.noun, second.color, second.pattern, second.size)
        return sum(x != y for x, y in zip(a, b, strict=True)) == 1 and any(
            x == y and x for x, y in zip(a, b, strict=True)
        )

    near = 0
    for scene in scenes():
        present = [parse(phrase) for phrase in scene.phrases]
        near += any(close(parse(absent), words) for absent in scene.absent_phrases for words in present)
    assert near > 0.6 * COUNT


@pytest.mark.parametrize("split", ["train", "held_out", "unseen"])
def test_families_part_the_objects_and_are_phrases_that_name_just_them(split: str) -> None:
    for scene in scenes(split):
        members = sorted(index for family in scene.families.values() for index in family)
        assert members == list(range(len(scene.objects)))
        for family, indices in scene.families.items():
            assert scene.phrases[family] == indices
            assert {scene.objects[i].family for i in indices} == {family}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_reserved_combinations_are_neither_shown_nor_named_outside_unseen(split: str) -> None:
    for scene in scenes(split):
        for it in scene.objects:
            for word in (it.color, it.pattern):
                assert word is None or not is_reserved(it.kind, word)
        for phrase in (*scene.phrases, *scene.absent_phrases):
            words = parse(phrase)
            for kind in () if words.noun in GENERAL_NOUNS else NOUNS[words.noun]:
                for word in {words.color, words.pattern} - {None, "plain"}:
                    assert not is_reserved(kind, word), phrase


def test_most_unseen_scenes_show_a_reserved_combination() -> None:
    def reserved(it: SceneObject) -> bool:
        return any(word is not None and is_reserved(it.kind, word) for word in (it.color, it.pattern))

    shown = [np.mean([reserved(it) for it in scene.objects]) for scene in scenes("unseen")]
    assert np.mean(np.array(shown) > 0) > 0.85
    assert np.mean(shown) > 0.6


def test_about_a_tenth_of_the_combinations_is_reserved_and_the_rule_does_not_move() -> None:
    pairs = [
        (kind.name, word)
        for kind in KINDS.values()
        for word in (*kind.colors, *(("striped", "dotted", "checkered") if kind.patterned else ()))
    ]
    reserved = {pair for pair in pairs if is_reserved(*pair)}
    assert 0.07 < len(reserved) / len(pairs) < 0.13
    assert {("circle", "grey"), ("star", "dotted"), ("cup", "green"), ("car", "blue")} <= reserved
    assert ("circle", "red") not in reserved


def test_greyscale_scenes_name_no_colour() -> None:
    grey = [scene for scene in scenes() if scene.greyscale]
    assert 0.1 * COUNT < len(grey) < 0.5 * COUNT
    for scene in grey:
        assert all(it.color is None for it in scene.objects)
        for phrase in (*scene.phrases, *scene.absent_phrases, *scene.families):
            assert parse(phrase).color is None, phrase


def test_size_words_are_only_used_where_the_scene_has_two_sizes() -> None:
    used = 0
    for scene in scenes():
        sizes = {parse(phrase).size for phrase in (*scene.phrases, *scene.absent_phrases)} - {None}
        assert not sizes or scene.sizes_clear
        used += bool(sizes)
    assert used > 3


def test_nobody_is_asked_whether_a_coin_is_a_circle() -> None:
    for scene in scenes():
        if any(it.kind == "coin" for it in scene.objects):
            asked = {parse(phrase).noun for phrase in (*scene.phrases, *scene.absent_phrases)}
            assert not asked & {"circle", "disc", "button"}


def test_easy_scenes_are_simpler_than_hard_ones() -> None:
    easy, hard = scenes(difficulty=0.0), scenes()

    def mean_objects(group: tuple[Scene, ...]) -> float:
        return float(np.mean([len(scene.objects) for scene in group]))

    def roughness(group: tuple[Scene, ...]) -> float:
        return float(np.mean([np.abs(np.diff(scene.image.astype(float), axis=1)).mean() for scene in group]))

    assert mean_objects(easy) < 0.6 * mean_objects(hard)
    assert roughness(easy) < 0.7 * roughness(hard)
    assert np.mean([it.visible for scene in easy for it in scene.objects]) > np.mean(
        [it.visible for scene in hard for it in scene.objects]
    )


def test_scenes_of_one_theme_share_few_families() -> None:
    for split in ("train", "unseen"):
        families = {
            family
            for seed in range(10)
            for family in render_scene(seed, size=64, theme=7, split=split).families
        }
        assert 1 <= len(families) <= 6


def test_colours_look_as_they_are_called_in_easy_scenes() -> None:
    checked = 0
    for scene in scenes(difficulty=0.0):
        for it in scene.objects:
            if it.color is None or it.pattern or it.kind not in SHAPE_KINDS:
                continue
            red, green, blue = np.median(scene.image[it.mask], axis=0) / 255
            hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
            low, high = HSV_RANGES[it.color][0]
            if it.color in ("white", "grey", "black"):
                assert saturation < 0.25
            else:
                assert min((hue * 360 - low) % 360, (high - hue * 360) % 360) < 180
                assert (hue * 360 - low + 12) % 360 <= high - low + 24, (it.color, hue * 360)
            checked += 1
    assert checked > 10


def test_every_word_of_every_phrase_is_in_the_vocabulary() -> None:
    known = set(vocabulary())
    for split in ("train", "unseen"):
        for scene in scenes(split):
            for phrase in (*scene.phrases, *scene.absent_phrases):
                assert set(phrase.split()) <= known


def test_phrases_are_taken_apart_as_they_are_built() -> None:
    assert parse("small striped red circle") == Words("circle", "red", "striped", "small")
    assert parse("red blood cell") == Words("red blood cell")
    assert parse("orange") == Words("orange")
    assert parse("orange thing") == Words("thing", "orange")
    assert parse("a plain blue square") == Words("square", "blue", "plain")
    assert parse("green leaves") == Words("leaf", "green")
    assert plural("nucleus") == "nuclei"
    with pytest.raises(ValueError, match="zebra"):
        parse("red zebra")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "choose train, held_out or unseen"),
        ({"difficulty": 1.5}, "from 0 to 1"),
        ({"difficulty": float("nan")}, "from 0 to 1"),
        ({"size": 16}, "64 pixels or larger"),
    ],
)
def test_wrong_arguments_are_refused_with_what_would_be_right(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        render_scene(0, **arguments)  # type: ignore[arg-type]
