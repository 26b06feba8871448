"""What is asked of an image while fine-tuning: phrases, example boxes, both, and what is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from conceptseg.data.absent_words import AbsentWords
from conceptseg.data.annotated_view import AnnotatedView
from conceptseg.data.batch import Question
from conceptseg.data.question_config import AskConfig
from conceptseg.prompts import VISUAL


class Questioner:
    """Asks about images; every draw is determined by the generator that is passed in."""

    def __init__(self, config: AskConfig, absent: AbsentWords) -> None:
        self.config = config
        self.absent = absent

    def ask(self, images: Sequence[AnnotatedView], image: int, rng: np.random.Generator) -> Question:
        """One question about `images[image]`; where its kind cannot be asked, a phrase, there or not."""
        kind = self.config.draw(rng)
        seen = images[image]
        question: Question | None = None
        if kind == "boxes" and seen.phrases:
            question = self._by_boxes(seen, image, _pick(narrowest(seen.phrases), rng), VISUAL, rng)
        elif kind == "phrase_and_boxes" and seen.phrases:
            phrase = _pick(sorted(seen.phrases), rng)
            question = self._by_boxes(seen, image, phrase, phrase, rng)
        elif kind == "other_image":
            question = self._other_image(images, image, rng)
        if question is not None:
            return question
        if kind == "absent_phrase" or not seen.phrases:
            return Question(image, self.absent.draw_for(seen, rng), [], [], image, [])
        phrase = _pick(sorted(seen.phrases), rng)
        return Question(image, phrase, [], [], image, seen.phrases[phrase])

    def _by_boxes(
        self, seen: AnnotatedView, image: int, phrase: str, words: str, rng: np.random.Generator
    ) -> Question:
        wanted = seen.phrases[phrase]
        positives = [int(i) for i in rng.permutation(wanted)[: rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])]]
        others = [i for members in seen.phrases.values() for i in members if i not in wanted]
        negatives = [int(i) for i in rng.permutation(others)[: int(rng.random() < 0.3)]]
        boxes = [self._noisy(seen, i, rng) for i in positives + negatives]
        labels = [1] * len(positives) + [0] * len(negatives)
        return Question(image, words, boxes, labels, image, wanted)

    def _other_image(
        self, images: Sequence[AnnotatedView], image: int, rng: np.random.Generator
    ) -> Question | None:
        beside = (
            image ^ 1
        )  # images come in pairs, so that what is asked does not depend on how many there are
        if beside >= len(images):
            return None
        there, here = images[beside], images[image]
        known = {*here.phrases, *here.absent}
        shared = [phrase for phrase in narrowest(there.phrases) if phrase in known]
        if not shared:
            return None
        phrase = _pick(shared, rng)
        chosen = rng.permutation(there.phrases[phrase])[: rng.integers(1, 4)]
        boxes = [self._noisy(there, int(i), rng) for i in chosen]
        wanted = here.phrases.get(phrase, [])
        return Question(image, VISUAL, boxes, [1] * len(boxes), beside, wanted)

    def _noisy(
        self, seen: AnnotatedView, number: int, rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """A box as a person would draw it: not quite tight, inside the image, never empty."""
        x0, y0, x1, y1 = seen.prepared.boxes_xyxy[number].tolist()
        noise = np.clip(rng.normal(0, self.config.box_noise, 4), -0.3, 0.3)
        dx, dy = x1 - x0, y1 - y0
        nx0, ny0 = max(0.0, x0 + noise[0] * dx), max(0.0, y0 + noise[1] * dy)
        nx1, ny1 = min(1.0, x1 + noise[2] * dx), min(1.0, y1 + noise[3] * dy)
        return (float(nx0), float(ny0), float(nx1), float(ny1))


def narrowest(phrases: Mapping[str, Sequence[int]]) -> list[str]:
    """Phrases that an example box alone may mean, sorted: no other phrase names only some of their objects.

    Where phrases contain each other ("fruit", "red apple"), a box on a red apple means red apples. Of phrases
    that name the same objects, the longest in words says best what they have in common.
    """
    named: dict[frozenset[int], str] = {}
    for phrase in sorted(phrases, key=lambda phrase: (-len(phrase.split()), phrase)):
        named.setdefault(frozenset(phrases[phrase]), phrase)
    return sorted(phrase for objects, phrase in named.items() if not any(other < objects for other in named))


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]
