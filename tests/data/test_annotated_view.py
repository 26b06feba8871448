"""What a view shows, what it surely does not show, and what is left unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conceptseg.data.annotated_view import AnnotatedView, view_image
from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.concept_questions import narrowest
from conceptseg.data.view import View
from conceptseg.errors import DataError

LEFT = ConceptObject((5.0, 5.0, 15.0, 15.0), [[5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 5.0, 15.0]])
RIGHT = ConceptObject((60.0, 20.0, 75.0, 35.0))
WHOLE = View((0, 0, 80, 40))
LEFT_HALF = View((0, 0, 40, 40))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def look(file: Path, view: View, phrases: dict[str, list[ConceptObject]], **known: Any) -> AnnotatedView:
    image = ConceptImage(file, 80, 40, phrases, **known)
    return view_image(image, view, 32, 16, 0.0, ("cat", "dog", "bird"), np.random.default_rng(0))


def test_objects_of_all_phrases_are_numbered_together(file: Path) -> None:
    seen = look(file, WHOLE, {"cat": [LEFT], "dog": [RIGHT, LEFT]})
    assert seen.phrases == {"cat": [0], "dog": [1, 0]}  # one object, whatever it is called
    assert seen.prepared.boxes_xyxy[0].tolist() == pytest.approx([5 / 80, 5 / 40, 15 / 80, 15 / 40])
    assert seen.prepared.has_mask.tolist() == [True, False]


def test_a_phrase_out_of_sight_becomes_an_absent_one(file: Path) -> None:
    seen = look(file, LEFT_HALF, {"cat": [LEFT], "dog": [RIGHT]}, absent_phrases=("bird",))
    assert seen.phrases == {"cat": [0]} and sorted(seen.absent) == ["bird", "dog"]


def test_a_sliver_is_neither_there_nor_absent(file: Path) -> None:
    seen = look(file, View((0, 0, 62, 40)), {"dog": [RIGHT]})  # 2 of its 15 pixels show
    assert seen.phrases == {} and seen.absent == []


def test_crowds_and_incomplete_phrases_are_not_asked(file: Path) -> None:
    crowd = ConceptObject((0.0, 0.0, 80.0, 40.0), None, crowd=True)
    seen = look(file, WHOLE, {"cat": [LEFT, crowd], "dog": [RIGHT]}, incomplete_phrases=frozenset({"dog"}))
    assert seen.phrases == {} and seen.absent == []


def test_sampled_absent_phrases_are_left_to_the_evaluation(file: Path) -> None:
    """They are the same for every dataset, and would be learned by heart."""
    seen = look(file, WHOLE, {"cat": [LEFT]}, absent_phrases=("windmill", "bird"))
    assert seen.absent == ["bird"]


def test_a_picture_of_another_size_than_annotated_is_refused(file: Path) -> None:
    image = ConceptImage(file, 40, 80, {})
    with pytest.raises(DataError, match=r"a.png is 80 x 40 pixels, but its annotations are for 40 x 80"):
        view_image(image, WHOLE, 32, 16, 0.0, (), np.random.default_rng(0))


def test_an_object_that_several_phrases_name_is_one_object(file: Path) -> None:
    """So that which phrase is the narrowest can be told."""
    left, right = ConceptObject((10, 10, 30, 30)), ConceptObject((60, 10, 79, 30))
    again = ConceptObject((10, 10, 30, 30))  # as formats read it: once per annotation
    seen = look(file, WHOLE, {"fruit": [left, right], "red apple": [again]})
    assert seen.phrases == {"fruit": [0, 1], "red apple": [0]}
    assert narrowest(seen.phrases) == ["red apple"]


def test_two_annotations_of_one_phrase_stay_two_however_alike(file: Path) -> None:
    twin = ConceptObject((10, 10, 30, 30))
    assert look(file, WHOLE, {"fruit": [twin, ConceptObject((10, 10, 30, 30))]}).phrases == {"fruit": [0, 1]}
