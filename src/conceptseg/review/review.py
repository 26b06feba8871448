"""The labelled images of a folder in the order in which they are looked at, and what is done to them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conceptseg.errors import ImageError, OptionError
from conceptseg.labelling.ledger import Labelled, Ledger
from conceptseg.review.decisions import Decision, Decisions, Object, State


@dataclass(frozen=True)
class Phrase:
    """A category of the labels."""

    name: str
    asked: str | None  # what the model was asked; None: examples alone
    threshold: float


@dataclass(frozen=True)
class ReviewedImage:
    """An image with its objects as they are now."""

    place: int  # in the order, from 0
    image: Labelled
    decision: Decision
    presence: tuple[float, ...]  # of each phrase
    size_hw: tuple[int, int]


class Review:
    """Made by `Review.open`; to be closed. To be used by one thread at a time.

    Places are numbers from 0: the image whose presence or scores lie nearest to a threshold comes first.
    """

    def __init__(self, folder: Path, ledger: Ledger, decisions: Decisions) -> None:
        self.folder = folder
        self.model = ledger.model
        self.phrases = tuple(
            Phrase(
                name, ledger.fingerprint[f"text of {name!r}"], ledger.fingerprint[f"threshold of {name!r}"]
            )
            for name in ledger.fingerprint["phrases"]
        )
        self._names = tuple(phrase.name for phrase in self.phrases)
        self._ledger, self._decisions = ledger, decisions
        thresholds = [phrase.threshold for phrase in self.phrases]
        kept = dict(decisions.all())
        found: list[tuple[float, int, str, State]] = []
        for image in ledger.all_labelled():
            decision = kept.get(image.path)
            state = decision.state if decision and self._holds(decision, image) else "open"
            found.append((nearest_to_threshold(image.answer, thresholds), image.id, image.path, state))
        found.sort()
        self._ids = [number for _, number, _, _ in found]
        self._places = {path: place for place, (_, _, path, _) in enumerate(found)}
        self._states = [state for _, _, _, state in found]

    @classmethod
    def open(cls, folder: Path) -> Review:
        """Raises:
        OptionError: no labels are there, or another process works in this folder.
        DataError: what lies there is damaged, or of another version.
        """
        ledger = Ledger.read(folder)
        try:
            decisions = Decisions.open(folder)
            try:
                review = cls(folder, ledger, decisions)
                if not len(review):
                    raise OptionError(f"{folder} holds no labelled image yet; run `conceptseg label` again")
                return review
            except BaseException:
                decisions.close()
                raise
        except BaseException:
            ledger.close()
            raise

    def close(self) -> None:
        self._decisions.close()
        self._ledger.close()

    def __enter__(self) -> Review:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, place: int) -> ReviewedImage:
        """One image.

        Raises:
            IndexError: there is no such place.
        """
        if not 0 <= place < len(self):
            raise IndexError(f"there is no image {place}; there are {len(self):,}, from 0")
        image = self._ledger.image(self._ids[place])
        (entry,) = image.answer["images"]
        presence = {item["category_id"]: item["presence"] for item in image.answer["presence"]}
        return ReviewedImage(
            place=place,
            image=image,
            decision=self._standing(image, self._decisions.get(image.path)),
            presence=tuple(presence[number] for number in range(1, len(self.phrases) + 1)),
            size_hw=(entry["height"], entry["width"]),
        )

    def next_open(self, place: int) -> int | None:
        """The next place without a decision, after the last from the beginning; None when none is left."""
        with suppress(ValueError):
            return self._states.index("open", place + 1)
        with suppress(ValueError):
            return self._states.index("open")
        return None

    def counts(self) -> dict[State, int]:
        """Images in each state."""
        found = Counter(self._states)
        return {state: found[state] for state in ("open", "accepted", "rejected")}

    def accepted(self) -> list[int]:
        """Places of the accepted images, in the order in which images were labelled."""
        places = [place for place, state in enumerate(self._states) if state == "accepted"]
        return sorted(places, key=self._ids.__getitem__)

    def steps(self) -> tuple[bool, bool]:
        """Whether there is something to undo, and to redo."""
        return self._decisions.steps()

    def decide(self, place: int, state: State) -> None:
        """Accept an image as it is now, reject it, or open it again."""
        shown = self.at(place)
        if shown.decision.state != state:
            self._decide(shown, replace(shown.decision, state=state))

    def remove(self, place: int, key: int) -> None:
        """Delete an object.

        Raises:
            KeyError: it is not there (any more).
        """
        shown = self.at(place)
        left = tuple(one for one in shown.decision.objects if one.key != key)
        if len(left) == len(shown.decision.objects):
            raise KeyError(key)
        self._decide(shown, replace(shown.decision, objects=left))

    def add(self, place: int, objects: Sequence[Object]) -> None:
        """Add objects; they are given keys of their own."""
        shown = self.at(place)
        keys = [annotation["id"] for annotation in shown.image.answer["annotations"]]
        first = 1 + max([*keys, *(one.key for one in shown.decision.objects)], default=0)
        new = tuple(replace(one, key=first + number, added=True) for number, one in enumerate(objects))
        self._decide(shown, replace(shown.decision, objects=shown.decision.objects + new))

    def undo(self) -> int | None:
        """Take the last step back, whatever image it was on; gives its place, or None."""
        return self._step(self._decisions.undo)

    def redo(self) -> int | None:
        """Take the step again that was taken back last."""
        return self._step(self._decisions.redo)

    def content(self, place: int) -> bytes:
        """The file of an image.

        Raises:
            ImageError: it is gone, or not the one that was labelled.
        """
        image = self.at(place).image
        try:
            content = Path(image.path).read_bytes()
        except OSError as error:
            raise ImageError(f"{image.name} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != image.digest:
            raise ImageError(f"{image.name} was changed since it was labelled; label the folder again")
        return content

    def _decide(self, shown: ReviewedImage, decision: Decision) -> None:
        self._decisions.decide(shown.image.path, decision)
        self._states[shown.place] = decision.state

    def _step(self, step: Callable[[], str | None]) -> int | None:
        while (path := step()) is not None:
            if path in self._places:  # otherwise of an image that is no longer labelled: go on
                place = self._places[path]
                self._states[place] = self.at(place).decision.state
                return place
        return None

    def _standing(self, image: Labelled, kept: Decision | None) -> Decision:
        """What was decided; without a decision that holds, what the labelling found."""
        if kept is not None and self._holds(kept, image):
            return kept
        objects = tuple(map(_labelled_object, image.answer["annotations"]))
        return Decision("open", image.digest, self._names, objects)

    def _holds(self, decision: Decision, image: Labelled) -> bool:
        """Whether it was made of this file and these phrases."""
        return (decision.digest, decision.phrases) == (image.digest, self._names)


def nearest_to_threshold(answer: dict[str, Any], thresholds: Sequence[float]) -> float:
    """How near the belief that a phrase is there, or an object's score, comes to the phrase's threshold.

    Args:
        answer: COCO content of one image.
        thresholds: one per phrase.
    """
    beliefs = [(item["category_id"], item["presence"]) for item in answer["presence"]]
    beliefs += [(item["category_id"], item["score"]) for item in answer["annotations"]]
    return min((abs(value - thresholds[number - 1]) for number, value in beliefs), default=1.0)


def _labelled_object(annotation: dict[str, Any]) -> Object:
    return Object(
        key=annotation["id"],
        phrase=annotation["category_id"] - 1,
        bbox=tuple(annotation["bbox"]),
        area=annotation["area"],
        counts=annotation["segmentation"]["counts"],
        score=annotation["score"],
    )
