"""An annotated image in a view: what is in sight, what is surely not, and what nobody knows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from conceptseg.data.absent_words import told_absent
from conceptseg.data.collate import PreparedImage
from conceptseg.data.concept_image import Box, ConceptImage, ConceptObject
from conceptseg.data.view import View, recoloured
from conceptseg.errors import DataError
from conceptseg.images import load_image

IN_SIGHT = 0.35  # share of its box that a view must show of an object to ask for it
LEAST_SIDE = 0.004  # of the view; below, nothing of an object is left to find


@dataclass
class AnnotatedView:
    """One view of one image, as questions are asked about it.

    Attributes:
        prepared: pixels and the objects of all phrases; boxes in 0..1 of the view.
        phrases: in sight and wholly annotated -> numbers of their objects.
        absent: phrases of the data that name nothing in the view.
        told: of these, the ones that the data itself says are absent; others follow from what is there.
    """

    prepared: PreparedImage
    phrases: dict[str, list[int]]
    absent: list[str]
    told: list[str] = field(default_factory=list)


def view_image(
    image: ConceptImage,
    view: View,
    resolution: int,
    mask_side: int,
    colour: float,
    known_phrases: tuple[str, ...],
    rng: np.random.Generator,
) -> AnnotatedView:
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
    objects, named = distinct_objects(image)
    boxes = torch.tensor([it.box_xyxy for it in objects], dtype=torch.float32).view(-1, 4)
    placed, visible = view.boxes(boxes)
    sides = (placed[:, 2:] - placed[:, :2]).amin(1)
    in_sight = (visible >= IN_SIGHT) & (sides >= LEAST_SIDE)
    kept = [i for i, it in enumerate(objects) if in_sight[i] and not it.crowd]
    number = {i: k for k, i in enumerate(kept)}
    phrases = {phrase: [number[i] for i in its if i in number] for phrase, its in named.items()}
    # A crowd in sight, or objects that nobody annotated: what is right cannot be told by comparing.
    unsure = {p for p, its in named.items() if any(objects[i].crowd and visible[i] > 0 for i in its)}
    unsure |= image.incomplete_phrases
    # Nor where only a sliver shows: it is neither there nor not there.
    showing = {phrase for phrase, its in named.items() if any(visible[i] > 0 for i in its)}
    absent = told_absent(image.absent_phrases, known_phrases) + [
        phrase for phrase in image.phrases if phrase not in showing and phrase not in unsure
    ]
    shown = [objects[i] for i in kept]
    prepared = PreparedImage(
        pixels=recoloured(view.pixels(picture, resolution), colour, rng),
        boxes_xyxy=placed[kept],
        size_hw=(1.0, 1.0),
        masks=view.masks(shown, (image.height, image.width), mask_side),
        has_mask=torch.tensor([it.mask is not None for it in shown], dtype=torch.bool),
    )
    return AnnotatedView(prepared, {p: its for p, its in phrases.items() if its and p not in unsure}, absent)


def distinct_objects(image: ConceptImage) -> tuple[list[ConceptObject], dict[str, list[int]]]:
    """Every object once, and phrase -> numbers of its objects.

    An object that several phrases name ("fruit", "red apple") is annotated with each, alike.
    """
    objects: list[ConceptObject] = []
    at: dict[Box, list[int]] = {}  # those with the same box; masks are long, and seldom need a comparison
    named: dict[str, list[int]] = {}
    for phrase, its in image.phrases.items():
        numbers = named.setdefault(phrase, [])
        for it in its:
            same = at.setdefault(it.box_xyxy, [])
            known = [i for i in same if i not in numbers and objects[i] == it]
            if not known:
                same.append(len(objects))
                objects.append(it)
            numbers.append(known[0] if known else same[-1])
    return objects, named
