"""What claims are measured on: drawn scenes, and real photographs, at the size that the model sees.

Both come as `Scene`s: squares with their objects, the phrases that are true of them, and phrases that are
not. Picture i is the same in every run and process, and each is a unit of the bootstrap.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.scene_questions import could_be_confused
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.errors import DataError
from conceptseg.exemplars.dataset_scenes import scene_of_image
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject, images_of_scenes

PHOTOGRAPHS = (("contours", "valid"), ("objects", "valid"))
BESIDE = 1_000_003  # scenes whose seeds differ by this are of one theme
KEPT = 8  # pictures in memory


class Pictures(ABC):
    """A numbered row of pictures."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def scene(self, number: int) -> Scene:
        """Picture `number`."""

    @abstractmethod
    def elsewhere(self, number: int) -> tuple[Scene, str] | None:
        """Another picture, and a concept that it shows and picture `number` surely does not."""

    def another(self, number: int) -> Scene:
        """A picture to change this one with: the next."""
        return self.scene((number + 1) % len(self))


class DrawnScenes(Pictures):
    """Held-out scenes: the distribution of training, other seeds."""

    name = "scenes"

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        self._count, self._size, self._first = count, max(64, size), 10_007 * seed
        self._draw = functools.lru_cache(KEPT)(self._drawn)

    def __len__(self) -> int:
        return self._count

    def scene(self, number: int) -> Scene:
        return self._draw(self._first + number)

    def elsewhere(self, number: int) -> tuple[Scene, str] | None:
        here, own = self.scene(number), self._first + number
        # Scenes of the same theme first, whose things are alike; then others.
        for seed in (own + BESIDE, own + 2 * BESIDE, own + BESIDE + 1, own + BESIDE + 2):
            beside = self._draw(seed)
            for family in beside.families:
                if family not in here.families and not could_be_confused(family, here):
                    return beside, family
        return None

    def _drawn(self, seed: int) -> Scene:
        return render_scene(seed, size=self._size, theme=seed % BESIDE, split="held_out")


class Photographs(Pictures):
    """Labelled photographs that nothing was trained on, in a shuffled order."""

    name = "photographs"

    def __init__(self, folder: Path, count: int, size: int, seed: int = 0) -> None:
        """Args:
        folder: that holds the datasets `PHOTOGRAPHS`, or is one itself.
        count: at most so many.
        size: pixels per side.
        seed: of the order.

        Raises:
            DataError: they cannot be read.
        """
        nested = [
            open_dataset(folder / name, split) for name, split in PHOTOGRAPHS if (folder / name).is_dir()
        ]
        self._sets: list[ConceptDataset] = nested or [open_dataset(folder)]
        self._size = size
        places = [(i, j) for i, data in enumerate(self._sets) for j in range(len(data))]
        order = np.random.default_rng([seed, 31]).permutation(len(places))[:count]
        self._places = [places[i] for i in order]
        if not self._places:
            raise DataError(f"{folder} shows no photograph")
        self._read = functools.lru_cache(KEPT)(self._squared)
        self._shown = functools.lru_cache(None)(self._phrases)

    def __len__(self) -> int:
        return len(self._places)

    def scene(self, number: int) -> Scene:
        return self._read(number)

    def elsewhere(self, number: int) -> tuple[Scene, str] | None:
        absent = set(self.scene(number).absent_phrases)
        for step in range(1, len(self)):
            other = (number + step) % len(self)
            if absent & self._shown(other):
                scene = self.scene(other)
                found = [name for name in scene.families if name in absent]
                if found:
                    return scene, found[0]
        return None

    def _squared(self, number: int) -> Scene:
        data, index = self._places[number]
        return scene_of_image(self._sets[data][index], self._size)

    def _phrases(self, number: int) -> frozenset[str]:
        data, index = self._places[number]
        return frozenset(self._sets[data][index].phrases)


def shown(scene: Scene) -> ShownImage:
    """A picture and its objects as the gap is measured on; an object without a mask has none."""
    images = list(images_of_scenes([scene]))
    objects = () if not images else images[0].objects
    return ShownImage(
        scene.image,
        tuple(
            it if it.mask is not None and it.mask.any() else ShownObject(it.concept, it.box_xyxy)
            for it in objects
        ),
    )


def choose_object(image: ShownImage, rng: np.random.Generator, least_side: float = 8.0) -> ShownObject | None:
    """One object to be the example, of a concept chosen first; None where all are too small."""
    fit = [
        it
        for it in image.objects
        if min(it.box_xyxy[2] - it.box_xyxy[0], it.box_xyxy[3] - it.box_xyxy[1]) >= least_side
    ]
    if not fit:
        return None
    concepts = list(dict.fromkeys(it.concept for it in fit))
    concept = concepts[int(rng.integers(len(concepts)))]
    members = [it for it in fit if it.concept == concept]
    return members[int(rng.integers(len(members)))]
