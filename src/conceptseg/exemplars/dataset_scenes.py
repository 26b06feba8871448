"""A labelled dataset as scenes, so that the questions of training scenes can be put to photographs.

A family is a phrase: an example box means all objects of its phrase. Where phrases contain each other
("fruit", "red apple"), a box on a red apple means red apples. Pictures are kept as squares, so that a pool of
them fits in memory.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from conceptseg.data.concept_data import ConceptDataset, ConceptImage, open_dataset
from conceptseg.data.concept_questions import narrowest
from conceptseg.data.scene_questions import QuestionMaker
from conceptseg.data.scenes import Scene
from conceptseg.data.scenes.scene import SceneObject
from conceptseg.errors import DataError
from conceptseg.images import load_image
from conceptseg.losses.targets import Targets

LEAST_SIDE = 2.0  # pixels of the square; what is smaller is no example


def scenes_of_dataset(path: str, split: str | None, count: int, size: int) -> list[Scene]:
    """The first images of a split that show anything, as many as an even number allows.

    Args:
        path: of the dataset.
        split: None for the one that is held out, or the only one.
        count: at most so many.
        size: side in pixels of the squares that images are stretched to.

    Raises:
        DataError: the dataset cannot be read, or fewer than two images show anything.
    """
    dataset: ConceptDataset = open_dataset(path, split)
    scenes: list[Scene] = []
    for index in range(len(dataset)):
        scene = scene_of_image(dataset[index], size)
        if scene.objects:
            scenes.append(scene)
        if len(scenes) == count:
            break
    if len(scenes) < 2:
        raise DataError(
            f"{dataset.name}/{dataset.split}: {len(scenes)} images show an object; two are needed"
        )
    return scenes[: len(scenes) // 2 * 2]


def scene_of_image(image: ConceptImage, size: int) -> Scene:
    """One labelled image; an object whose shape is not known has an empty mask.

    Phrases of which some objects are not annotated are left out.
    """
    pixels = Image.fromarray(load_image(image.path).pixels)
    square = np.array(pixels.resize((size, size), Image.Resampling.BILINEAR))
    across, down = size / image.width, size / image.height
    objects: list[SceneObject] = []
    numbers: dict[tuple[float, ...], int] = {}  # an object that several phrases name is one object
    phrases: dict[str, list[int]] = {}
    for phrase, members in image.phrases.items():
        if phrase in image.incomplete_phrases or any(it.crowd for it in members):
            continue
        for it in members:
            x0, y0, x1, y1 = it.box_xyxy
            box = (x0 * across, y0 * down, x1 * across, y1 * down)
            if min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
                continue
            if it.box_xyxy not in numbers:
                known = it.decode(image.height, image.width)
                mask = np.zeros((size, size), bool) if known is None else _squared(known, size)
                numbers[it.box_xyxy] = len(objects)
                objects.append(SceneObject(phrase, None, None, None, phrase, mask, box, 1.0))
            named = phrases.setdefault(phrase, [])
            if numbers[it.box_xyxy] not in named:
                named.append(numbers[it.box_xyxy])
    return Scene(
        image=square,
        objects=objects,
        phrases=phrases,
        absent_phrases=list(image.absent_phrases),
        families={phrase: phrases[phrase] for phrase in narrowest(phrases)},
        greyscale=False,
        sizes_clear=False,
        theme=0,
    )


class DatasetQuestions(QuestionMaker):
    """Questions about labelled images, which may show more than their labels say."""

    def knows(self, family: str, scene: Scene) -> bool:
        """Whether labels say what a box on such an object means here, or that nothing here is one."""
        return family in scene.families or family in scene.absent_phrases


def without_empty_masks(targets: Targets) -> Targets:
    """The same targets, in which an empty mask counts as unknown and not as a shape."""
    if targets.masks is None:
        return targets
    return dataclasses.replace(targets, has_mask=targets.valid & targets.masks.flatten(2).any(-1))


def _squared(mask: np.ndarray, size: int) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX)) > 127
