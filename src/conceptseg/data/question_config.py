"""How often a training image is asked by a phrase, by example boxes, by both, or for what is not there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conceptseg.errors import ConfigError

KINDS = ("phrase", "absent_phrase", "boxes", "phrase_and_boxes", "other_image")


@dataclass(frozen=True)
class AskConfig:
    """Of labelled images; the shares are normalised to sum to one."""

    phrase: float = 0.6  # of the data, that name something in the image
    absent_phrase: float = 0.15  # that name nothing in it
    boxes: float = 0.1  # one to three example boxes, sometimes with negative ones
    phrase_and_boxes: float = 0.08  # words with example boxes, sometimes with a negative one
    other_image: float = 0.07  # example boxes on another image
    box_noise: float = 0.06  # example boxes are off by this share of their size (standard deviation)

    def __post_init__(self) -> None:
        if min(self.shares()) < 0 or sum(self.shares()) <= 0:
            raise ConfigError("the shares of the question kinds must be 0 or more, and not all zero")
        if not 0 <= self.box_noise <= 0.3:
            raise ConfigError(f"box_noise is {self.box_noise}; give a share from 0 to 0.3")

    def shares(self) -> tuple[float, ...]:
        """Of each of `KINDS`."""
        return tuple(getattr(self, name) for name in KINDS)

    def draw(self, rng: np.random.Generator) -> str:
        """One of `KINDS`."""
        shares = np.array(self.shares())
        return KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]


@dataclass(frozen=True)
class QuestionConfig(AskConfig):
    """Of scenes, which know more of what is absent."""

    phrase: float = 0.42
    absent_phrase: float = 0.22
    boxes: float = 0.17
    phrase_and_boxes: float = 0.09  # with example boxes, or with a negative box that narrows the words
    other_image: float = 0.10  # on the scene beside this one
    noun_share: float = 0.0  # of the phrases that name something: a noun alone, beside those drawn among all
    unknown_share: float = 0.12  # of the absent phrases: words that no scene shows

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("noun_share", "unknown_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"questions.{name} is {getattr(self, name)}; give a share from 0 to 1")
