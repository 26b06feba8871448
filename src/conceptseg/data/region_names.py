"""The objects of photographs against names: which is true of which, to align regions with words.

What `region_phrases` does for scenes, whose phrases have a grammar. A name is true of an object under any of
its names and wider words, false where the two have nothing to do with each other, and unclear else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from conceptseg.data.batch import RegionPhrases
from conceptseg.data.collate import PreparedImage
from conceptseg.data.composites import box_mask
from conceptseg.data.names import Names
from conceptseg.data.region_phrases import UNCLEAR
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.text.tokenizer import Tokenizer


def named_regions(
    images: Sequence[tuple[int, PreparedImage, list[list[str]]]],
    names: Names,
    all_names: Sequence[str],
    foreign: Sequence[str],
    tokenizer: Tokenizer,
    per_image: int,
    rng: np.random.Generator,
) -> RegionPhrases:
    """Draw names and example boxes from photographs and say what each is true of.

    Args:
        images: number in the batch, objects, and the names of each object; one without a name is left out.
        names: what names have to do with each other.
        all_names: of all data.
        foreign: words that name nothing in any data.
        tokenizer: of the model.
        per_image: names that are not there, drawn for each image, and as many of the same families.
        rng: decides.
    """
    masks, boxes, index, called = [], [], [], []
    for number, image, own in images:
        cxcywh = pixels_to_cxcywh(image.boxes_xyxy, image.size_hw)
        for i, its in enumerate(own):
            if its:
                masks.append(_region(image, i))
                boxes.append(cxcywh[i])
                index.append(number)
                called.append(its)
    said: dict[str, str] = {}  # as it is said -> the name that it means
    for its in called:
        for name in its:
            wider = sorted(names.true_of(name))
            for word in (name, wider[int(rng.integers(len(wider)))]):
                said.setdefault(names.spoken(word, 0, rng), word)
    kin = names.kin(all_names, {name for its in called for name in its})
    for source, count in ((all_names, per_image), (kin, per_image), (foreign, per_image // 2)):
        for place in rng.permutation(len(source))[: count * max(1, len(images) // 2)]:
            said.setdefault(source[place], source[place])
    known = {word: {name: names.true(word, name) for its in called for name in its} for word in said.values()}
    truth = [[_answer([known[word][name] for name in its]) for its in called] for word in said.values()]
    side = images[0][1].masks.shape[-1] if images else 1
    examples = _examples(index, rng)
    same = [[_same(names, called[e], its) for its in called] for e in examples]
    return RegionPhrases(
        masks=torch.stack(masks) if masks else torch.zeros(0, side, side, dtype=torch.bool),
        boxes_cxcywh=torch.stack(boxes) if boxes else torch.zeros(0, 4),
        image_index=torch.tensor(index, dtype=torch.long),
        token_ids=tokenizer(list(said)),
        examples=torch.tensor(examples, dtype=torch.long),
        truth=torch.tensor([*truth, *same], dtype=torch.int8).view(len(said) + len(examples), len(called)),
    )


def join_regions(one: RegionPhrases, other: RegionPhrases) -> RegionPhrases:
    """Both together; what is true of the objects of the other one is left open.

    Args:
        one: images are numbered as in the batch.
        other: likewise.
    """
    phrases, others = len(one.token_ids), len(other.token_ids)
    objects, more = one.truth.shape[1], other.truth.shape[1]

    def block(rows: int, columns: int) -> torch.Tensor:
        return torch.full((rows, columns), UNCLEAR, dtype=torch.int8)

    truth = torch.cat(
        [
            torch.cat([one.truth[:phrases], block(phrases, more)], 1),
            torch.cat([block(others, objects), other.truth[:others]], 1),
            torch.cat([one.truth[phrases:], block(len(one.examples), more)], 1),
            torch.cat([block(len(other.examples), objects), other.truth[others:]], 1),
        ]
    )
    return RegionPhrases(
        masks=torch.cat([one.masks, other.masks]) if len(other.masks) else one.masks,
        boxes_cxcywh=torch.cat([one.boxes_cxcywh, other.boxes_cxcywh]),
        image_index=torch.cat([one.image_index, other.image_index]),
        token_ids=torch.cat([one.token_ids, other.token_ids]),
        examples=torch.cat([one.examples, other.examples + objects]),
        truth=truth,
    )


def _region(image: PreparedImage, number: int) -> torch.Tensor:
    """(h, w) bool: the object, or what its box holds where nothing else is known."""
    if image.has_mask[number]:
        return image.masks[number]
    return box_mask(image.boxes_xyxy.view(-1, 4)[number], image.size_hw, image.masks.shape[-1])


def _examples(index: Sequence[int], rng: np.random.Generator) -> list[int]:
    """One object of each image."""
    by_image: dict[int, list[int]] = {}
    for place, image in enumerate(index):
        by_image.setdefault(image, []).append(place)
    return [int(rng.choice(own)) for own in by_image.values()]


def _answer(answers: Sequence[bool | None]) -> int:
    """Of all names of an object: true if one of them says so, false if all do."""
    if True in answers:
        return 1
    return UNCLEAR if None in answers else 0


def _same(names: Names, one: Sequence[str], other: Sequence[str]) -> int:
    """Whether two objects are of one kind; unclear where one's name is wider than the other's."""
    if set(one) & set(other):
        return 1
    return _answer([None if names.true(a, b) is not False else False for a in one for b in other])
