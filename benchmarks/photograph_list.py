"""Photographs beyond the coins, and what to ask of each: boxes drawn and objects counted by eye.

All come inside scikit-image's wheel, so nothing is downloaded; none was trained on. They are not chosen to be
easy. `shown` marks those that the page on limits shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

CREDITS = {  # function of skimage.data -> by whom and under what terms, as its docstring says
    "astronaut": "NASA, public domain",
    "brick": "CC0Textures, CC0",
    "camera": "Lav Varshney, CC0",
    "cat": "Stefan van der Walt, CC0",
    "cell": "Paul Müller and others, CC0",
    "clock": "Stefan van der Walt, public domain",
    "coffee": "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
    "gravel": "CC0Textures, CC0",
    "horse": "Andreas Preuss, CC0",
    "immunohistochemistry": "no known copyright restrictions",
    "moon": "scikit-image names no terms",
    "rocket": "SpaceX, public domain",
    "stereo_motorcycle": "Middlebury stereo data 2014; scikit-image names no terms",
}
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Question:
    """One photograph and one prompt."""

    name: str  # of the overlay's file
    photograph: str  # function of skimage.data
    there: int | None  # objects that the prompt means, counted by eye; None: too many to count
    what: str  # they are
    text: str | None = None
    box: Box | None = None  # one example: x0, y0, x1, y1 in pixels
    shown: Literal["works", "fails"] | None = None

    @property
    def prompt(self) -> dict[str, Any]:
        """Arguments of `Segmenter.segment`."""
        given: dict[str, Any] = {} if self.text is None else {"text": self.text}
        return given if self.box is None else {**given, "boxes": [self.box]}

    @property
    def asked(self) -> str:
        words = [f'"{self.text}"'] if self.text else []
        return " and ".join(words + ["one box"] if self.box else words)


CUP, CELL, CLOCK = (172.0, 12.0, 414.0, 302.0), (360.0, 308.0, 497.0, 443.0), (142.0, 94.0, 285.0, 216.0)

QUESTIONS = (
    Question("person_phrase", "astronaut", 1, "the astronaut", text="person", shown="works"),
    Question("cat_phrase", "cat", 1, "the cat's head", text="cat", shown="fails"),
    Question("motorcycle_phrase", "stereo_motorcycle", 1, "the motorcycle", text="motorcycle", shown="works"),
    Question("animal_phrase", "cat", 1, "the cat's head", text="animal", shown="works"),
    Question("camera_phrase", "camera", 1, "the camera", text="camera"),
    Question("person_in_camera", "camera", 1, "the man with the camera", text="person", shown="works"),
    Question("guitar_in_astronaut", "astronaut", 0, "no guitar is there", text="guitar"),
    Question("cup_phrase", "coffee", 1, "the cup", text="cup", shown="fails"),
    Question("cup_box", "coffee", 1, "the cup", box=CUP, shown="fails"),
    Question("cup_both", "coffee", 1, "the cup", text="cup", box=CUP),
    Question("saucer_box", "coffee", 1, "the saucer", box=(76.0, 54.0, 486.0, 372.0)),
    Question("cell_phrase", "cell", 1, "the bright cell", text="cell", shown="works"),
    Question("cell_box", "cell", 1, "the bright cell", box=CELL),
    Question("clock_phrase", "clock", 1, "a wall clock, blurred by motion", text="clock"),
    Question("clock_box", "clock", 1, "a wall clock, blurred by motion", box=CLOCK, shown="works"),
    Question("horse_phrase", "horse", 1, "a silhouette (no photograph)", text="black object"),
    Question("horse_box", "horse", 1, "a silhouette (no photograph)", box=(12.0, 6.0, 392.0, 322.0)),
    Question("eyes_box", "cat", 2, "the cat's eyes", box=(133.0, 78.0, 211.0, 149.0), shown="works"),
    Question("wheels_box", "stereo_motorcycle", 2, "the wheels", box=(524.0, 299.0, 672.0, 460.0)),
    Question("helmet_box", "astronaut", 1, "the helmet", box=(276.0, 341.0, 512.0, 512.0), shown="fails"),
    Question("face_phrase", "astronaut", 1, "the face", text="face"),
    Question("rocket_box", "rocket", 1, "the rocket", box=(302.0, 130.0, 334.0, 415.0)),
    Question("craters_box", "moon", None, "craters", box=(96.0, 65.0, 145.0, 109.0)),
    Question("bricks_box", "brick", None, "bricks, edge to edge", box=(188.0, 58.0, 219.0, 168.0)),
    Question("gravel_phrase", "gravel", None, "stones, edge to edge", text="stone"),
    Question("nuclei_phrase", "immunohistochemistry", None, "stained nuclei", text="nucleus"),
    Question("car_in_no_car", "camera", 0, "no car is there", text="car"),
    Question("coin_in_coffee", "coffee", 0, "no coin is there", text="coin"),
)


def read_photograph(name: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 from scikit-image's wheel."""
    from skimage import data

    picture = getattr(data, name)()
    if isinstance(picture, tuple):  # a stereo pair: left, right, disparity
        picture = picture[0]
    if picture.dtype == bool:
        picture = picture.astype(np.uint8) * 255
    return np.ascontiguousarray(picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1))
