"""What the gap is measured on: pictures, and objects in them that may serve as examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.scenes import Scene
from conceptseg.images import load_image

LEAST_SIDE = 4.0  # pixels; what lies under a smaller box is less than a feature of any model


@dataclass(frozen=True)
class ShownObject:
    """One object of a concept."""

    concept: str
    box_xyxy: tuple[float, float, float, float]  # pixels
    mask: NDArray[np.bool_] | None = None  # (H, W); None where only the box is known


@dataclass(frozen=True)
class ShownImage:
    """A picture with all objects of the concepts that are looked at."""

    pixels: NDArray[np.uint8]  # (H, W, 3)
    objects: tuple[ShownObject, ...]

    def of(self, concept: str) -> list[ShownObject]:
        return [it for it in self.objects if it.concept == concept]


def images_of_dataset(dataset: ConceptDataset, count: int | None = None) -> Iterator[ShownImage]:
    """The images of a split that show anything, the first so many of them, read as they are needed.

    Raises:
        ImageError: an image cannot be read.
    """
    made = 0
    for index in range(len(dataset)):
        image = dataset[index]
        objects = [
            ShownObject(phrase, it.box_xyxy, it.decode(image.height, image.width))
            for phrase, members in image.phrases.items()
            for it in members
            if not it.crowd and _large_enough(it.box_xyxy)
        ]
        if objects:
            yield ShownImage(load_image(image.path).pixels, tuple(objects))
            made += 1
        if made == count:
            return


def images_of_scenes(scenes: Sequence[Scene]) -> Iterator[ShownImage]:
    """Scenes; a concept is a family, the whole look of an object."""
    for scene in scenes:
        objects = [
            ShownObject(it.family, it.box_xyxy, it.mask) for it in scene.objects if _large_enough(it.box_xyxy)
        ]
        if objects:
            yield ShownImage(scene.image, tuple(objects))


def choose_examples(
    images: Sequence[ShownImage], per_concept: int, seed: int
) -> list[tuple[int, ShownObject]]:
    """At most so many objects of each concept in each image, the same ones in every run: (image, object)."""
    chosen: list[tuple[int, ShownObject]] = []
    for number, image in enumerate(images):
        rng = np.random.default_rng([seed, number])
        for concept in dict.fromkeys(it.concept for it in image.objects):
            members = image.of(concept)
            kept = sorted(rng.permutation(len(members))[:per_concept].tolist())
            chosen += [(number, members[i]) for i in kept]
    return chosen


def _large_enough(box_xyxy: tuple[float, float, float, float]) -> bool:
    x0, y0, x1, y1 = box_xyxy
    return min(x1 - x0, y1 - y0) >= LEAST_SIDE
