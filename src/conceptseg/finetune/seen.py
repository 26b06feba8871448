"""An annotated image in a view: what is in sight, what is surely not, and what nobody knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from conceptseg.data.collate import PreparedImage
from conceptseg.data.concept_image import ConceptImage
from conceptseg.errors import DataError
from conceptseg.finetune.absent_words import told_absent
from conceptseg.finetune.view import View, recoloured
from conceptseg.images import load_image

IN_SIGHT = 0.35  # share of its box that a view must show of an object to ask for it
LEAST_SIDE = 0.004  # of the view; below, nothing of an object is left to find


@dataclass
class SeenImage:
    """One view of one image, as questions are asked about it.

    Attributes:
        prepared: pixels and the objects of all phrases; boxes in 0..1 of the view.
        phrases: in sight and wholly annotated -> numbers of their objects.
        absent: phrases of the data that name nothing in the view.
    """

    prepared: PreparedImage
    phrases: dict[str, list[int]]
    absent: list[str]


def see(
    image: ConceptImage,
    view: View,
    resolution: int,
    mask_side: int,
    colour: float,
    known_phrases: tuple[str, ...],
    rng: np.random.Generator,
) -> SeenImage:
    """Look at an image.

    Args:
        image: as annotated.
        view: what of it.
        resolution: side in pixels that the model reads.
        mask_side: of the masks that are compared.
        colour: how much colours change.
        known_phrases: of the data.
        rng: decides on colours.

    Raises:
        ImageError: the image cannot be read.
        DataError: it has another size than its annotations say, or a mask is damaged.
    """
    picture = load_image(image.path).pixels
    if picture.shape[:2] != (image.height, image.width):
        raise DataError(
            f"{image.path} is {picture.shape[1]} x {picture.shape[0]} pixels, but its annotations are for "
            f"{image.width} x {image.height}"
        )
    every = [(phrase, it) for phrase, objects in image.phrases.items() for it in objects]
    boxes = torch.tensor([it.box_xyxy for _, it in every], dtype=torch.float32).view(-1, 4)
    placed, visible = view.boxes(boxes)
    sides = (placed[:, 2:] - placed[:, :2]).amin(1)
    in_sight = (visible >= IN_SIGHT) & (sides >= LEAST_SIDE)
    kept = [i for i, (_, it) in enumerate(every) if in_sight[i] and not it.crowd]
    phrases: dict[str, list[int]] = {}
    for number, i in enumerate(kept):
        phrases.setdefault(every[i][0], []).append(number)
    # A crowd in sight, or objects that nobody annotated: what is right cannot be told by comparing.
    unsure = {phrase for i, (phrase, it) in enumerate(every) if it.crowd and visible[i] > 0}
    unsure |= image.incomplete_phrases
    # Nor where only a sliver shows: it is neither there nor not there.
    showing = {phrase for i, (phrase, _) in enumerate(every) if visible[i] > 0}
    absent = told_absent(image.absent_phrases, known_phrases) + [
        phrase for phrase in image.phrases if phrase not in showing and phrase not in unsure
    ]
    objects = [every[i][1] for i in kept]
    prepared = PreparedImage(
        pixels=recoloured(view.pixels(picture, resolution), colour, rng),
        boxes_xyxy=placed[kept],
        size_hw=(1.0, 1.0),
        masks=view.masks(objects, (image.height, image.width), mask_side),
        has_mask=torch.tensor([it.mask is not None for it in objects], dtype=torch.bool),
    )
    return SeenImage(prepared, {p: o for p, o in phrases.items() if p not in unsure}, absent)
