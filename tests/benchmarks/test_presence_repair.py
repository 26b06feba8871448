"""What counts as having come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.presence_repair import ask, count, draw
from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.result import Result

SIDE = 20
LEFT, RIGHT = (0.0, 0.0, 8.0, 20.0), (12.0, 0.0, 20.0, 20.0)


def box_mask(box: tuple[float, float, float, float]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    return mask


class Scripted:
    """Answers each phrase with the boxes it was told."""

    def __init__(self, answers: dict[str, list[tuple[float, float, float, float]]]) -> None:
        self.answers = answers

    def segment(self, image: Path, text: list[str]) -> list[Result]:
        return [self._result(phrase) for phrase in text]

    def _result(self, phrase: str) -> Result:
        boxes = self.answers.get(phrase, [])
        scores = np.full(len(boxes), 0.9, np.float32)
        masks = np.array([box_mask(box) for box in boxes], bool).reshape(-1, SIDE, SIDE)
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        given = np.array(boxes, np.float32).reshape(-1, 4)
        return Result(
            phrase,
            (SIDE, SIDE),
            masks,
            boxes=given,
            scores=scores,
            class_scores=scores,
            presence=0.5,
            presence_logit=0.0,
            image=pixels,
        )


@pytest.fixture
def image() -> ConceptImage:
    """Two coins and a star; no moon."""

    def polygon(box: tuple[float, float, float, float]) -> ConceptObject:
        x0, y0, x1, y1 = box
        return ConceptObject(box, [[x0, y0, x1, y0, x1, y1, x0, y1]])

    phrases = {"coin": [polygon(LEFT), polygon(RIGHT)], "star": [polygon(LEFT)]}
    return ConceptImage(Path("scene.png"), SIDE, SIDE, phrases, ("moon",))


def test_only_every_object_and_nothing_false_has_come_back(image: ConceptImage) -> None:
    after = Scripted({"coin": [RIGHT, LEFT], "star": [LEFT, RIGHT], "moon": [LEFT]})
    pairs = ask(Scripted({}), after, image)  # type: ignore[arg-type]
    assert [pair.right for pair in pairs] == [True, False, False]
    assert [number for _, number in count(pairs)] == [2, 2, 1, 0, 1, 0, 1]


def test_one_detection_of_two_objects_is_not_all(image: ConceptImage) -> None:
    pairs = ask(Scripted({"star": [LEFT]}), Scripted({"coin": [LEFT], "star": [LEFT]}), image)  # type: ignore[arg-type]
    assert [pair.right for pair in pairs] == [False, True, False]
    assert [number for _, number in count(pairs)] == [2, 1, 0, 0, 1, 0, 0]


def test_before_and_after_are_drawn_side_by_side(image: ConceptImage) -> None:
    (pair, *_) = ask(Scripted({}), Scripted({"coin": [LEFT, RIGHT]}), image)  # type: ignore[arg-type]
    sheet = draw(pair)
    assert sheet.width == 2 * 2 * SIDE + 8 and sheet.height > 2 * SIDE
