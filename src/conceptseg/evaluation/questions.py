"""How a labelled image becomes questions: by phrase, by example box, or by both.

A phrase that is present is asked with one of its own objects as the example; a phrase that is absent with an
example from another image, since only that can show whether presence says no. A phrase that has no example
anywhere cannot be asked by boxes; such pairs are counted, not guessed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conceptseg.choices import PresenceMode, PromptKind, check_choice
from conceptseg.data.concept_data import ConceptImage, ConceptObject
from conceptseg.errors import DataError
from conceptseg.exemplar import Exemplar
from conceptseg.result import Result
from conceptseg.segmenter import EncodedImage, Segmenter

# Lower scores are not looked at. Average precision counts from here; a mask of every query of every absent
# phrase would cost most of the time and change nothing that can be seen.
LEAST_SCORE = 0.001
_PIXELS_AT_ONCE = 2**28  # of all masks that are held together: 256 MB
_MASKS_PER_PHRASE = 100
_LEAST_SIDE = 1.0  # pixels of a box that can serve as an example


@dataclass(frozen=True)
class Answer:
    """What the model says to one phrase in one image, and what is true."""

    phrase: str
    objects: Sequence[ConceptObject]  # none: the phrase names nothing here
    result: Result
    exhaustive: bool  # every object of the phrase is annotated


class Asker:
    """Asks everything that is known about the images of a dataset.

    Attributes:
        skipped: (image, phrase) pairs that were not asked, for want of an example box.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        images: Sequence[ConceptImage],
        prompts: PromptKind,
        *,
        count: int,
        threshold: float,
        presence: PresenceMode | None = None,
        absent: Sequence[str] = (),
        seed: int = 0,
        least_score: float = LEAST_SCORE,
    ) -> None:
        """Args:
        segmenter: the model.
        images: of a dataset; read once more here when examples from other images are needed.
        prompts: "text" asks by phrase, "boxes" by one example box, "both" by the two together.
        count: how many of the images are asked, from the first one on.
        threshold: scores that the metrics cut at; lower ones are kept too, for average precision.
        presence: as in `Segmenter.segment`.
        absent: phrases to ask of every image that does not show them, beside those the data names.
        seed: decides which object is the example.
        least_score: lower scores are not looked at.

        Raises:
            OptionError: unknown prompts.
        """
        check_choice("prompts", prompts, PromptKind)
        self.segmenter = segmenter
        self.prompts = prompts
        self.skipped = 0
        self._images = images
        self._threshold = min(least_score, threshold)
        self._presence = presence
        self._absent = tuple(absent)
        self._seed = seed
        self._exemplars: dict[str, Exemplar] = {}  # a few kB each, one per phrase
        self._shown_in = {} if prompts == "text" else self._find_examples(count)

    def answers(self, image: ConceptImage) -> Iterator[Answer]:
        """One answer per phrase that is known to be present or absent in an image.

        Raises:
            ImageError: the image cannot be read.
            DataError: it has another size than its annotations say.
        """
        present = list(image.phrases)
        named = [*image.absent_phrases, *self._absent]
        phrases = present + [phrase for phrase in dict.fromkeys(named) if phrase not in image.phrases]
        if not phrases:
            return
        encoded = self.segmenter.encode(image.path)
        height, width = encoded.size_hw
        if (height, width) != (image.height, image.width):
            raise DataError(
                f"{image.path} is {width} x {height} pixels, but its annotations are for "
                f"{image.width} x {image.height}"
            )
        results = (
            self._by_text(encoded, phrases)
            if self.prompts == "text"
            else self._by_example(encoded, image, phrases)
        )
        for phrase, result in results:
            yield Answer(
                phrase, image.phrases.get(phrase, ()), result, phrase not in image.incomplete_phrases
            )

    def _by_text(self, encoded: EncodedImage, phrases: Sequence[str]) -> Iterator[tuple[str, Result]]:
        height, width = encoded.size_hw
        together = max(1, _PIXELS_AT_ONCE // (height * width * _MASKS_PER_PHRASE))
        for start in range(0, len(phrases), together):
            some = list(phrases[start : start + together])
            results = self.segmenter.segment(
                encoded, text=some, threshold=self._threshold, presence=self._presence
            )
            yield from zip(some, results, strict=True)

    def _by_example(
        self, encoded: EncodedImage, image: ConceptImage, phrases: Sequence[str]
    ) -> Iterator[tuple[str, Result]]:
        for phrase in phrases:
            boxes, exemplar = None, None
            if phrase in image.phrases:
                box = self._example_box(image, phrase)
                boxes = None if box is None else [box]
            else:
                exemplar = self._foreign_example(phrase)
            if boxes is None and exemplar is None:
                self.skipped += 1
                continue
            text = phrase if self.prompts == "both" else None
            yield (
                phrase,
                self.segmenter.segment(
                    encoded,
                    text=text,
                    boxes=boxes,
                    exemplar=exemplar,
                    threshold=self._threshold,
                    presence=self._presence,
                ),
            )

    def _foreign_example(self, phrase: str) -> Exemplar | None:
        """An example from the first image that shows the phrase."""
        if phrase not in self._exemplars and phrase in self._shown_in:
            image = self._images[self._shown_in[phrase]]
            box = self._example_box(image, phrase)
            assert box is not None  # _find_examples took only images that have one
            self._exemplars[phrase] = self.segmenter.exemplar(image.path, boxes=[box])
        return self._exemplars.get(phrase)

    def _find_examples(self, count: int) -> dict[str, int]:
        shown: dict[str, int] = {}
        for index in range(count):
            image = self._images[index]
            for phrase in image.phrases:
                if phrase not in shown and self._example_box(image, phrase) is not None:
                    shown[phrase] = index
        return shown

    def _example_box(self, image: ConceptImage, phrase: str) -> list[float] | None:
        """One object of the phrase; the same one in every run, whatever other images there are."""
        usable = [
            it.box_xyxy
            for it in image.phrases[phrase]
            if not it.crowd
            and it.box_xyxy[2] - it.box_xyxy[0] >= _LEAST_SIDE
            and it.box_xyxy[3] - it.box_xyxy[1] >= _LEAST_SIDE
            and max(it.box_xyxy) > 1  # what lies in the first pixel looks like a normalised box
        ]
        if not usable:
            return None
        rng = np.random.default_rng([self._seed, zlib.crc32(f"{image.path.name}\n{phrase}".encode())])
        return [float(side) for side in usable[int(rng.integers(len(usable)))]]
