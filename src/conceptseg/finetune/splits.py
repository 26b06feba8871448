"""Which images are trained on and which ones judge."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from conceptseg.data.concept_data import HELD_OUT, ConceptDataset, choose_split, open_dataset
from conceptseg.data.formats.recognise import find_splits
from conceptseg.errors import DataError

TRAIN = "train"
HELD_BACK = 0.15  # of the images, where the data has no held-out split


@dataclass(frozen=True)
class TrainAndJudge:
    """Two parts of a dataset without a common image."""

    train: ConceptDataset
    judge: ConceptDataset
    held_back: bool  # the second is a part of the split that is trained on


def train_and_judge(
    data: str | os.PathLike[str],
    split: str | None = None,
    held_out: str | None = None,
    most: int = 100,
    seed: int = 0,
) -> TrainAndJudge:
    """Open a dataset for fine-tuning.

    Args:
        data: folder or file of the dataset.
        split: to train on; None for "train", or the only one.
        held_out: to judge on; None for the held-out one, or, without one, a part of `split`.
        most: images that judge, at most.
        seed: decides which images are held back.

    Raises:
        DataError: a split is missing or empty, or has nothing to learn from, or is used twice.
    """
    names = list(find_splits(data))
    chosen = choose_split(names, split if split is not None else _training(names), data)
    whole = open_dataset(data, chosen)
    where = f"{os.fspath(data)}: the split {chosen}"
    if not len(whole):
        raise DataError(f"{where} has no image to train on")
    if not any(image.phrases for image in whole):
        raise DataError(f"{where} has nothing to learn from: none of its images shows a named object")
    judges = [name for name in (HELD_OUT if held_out is None else (held_out,)) if name != chosen]
    if held_out is not None and not judges:
        raise DataError(f"{where} cannot be trained on and judge as well; choose two splits")
    found = [name for name in judges if name in names]
    if found or held_out is not None:
        judge = open_dataset(data, held_out if held_out is not None else found[0])
        if not len(judge):
            raise DataError(f"{os.fspath(data)}: the split {judge.split} has no image to judge on")
        return TrainAndJudge(whole, spread(judge, most), held_back=False)
    if len(whole) < 2:
        raise DataError(f"{where} has one image and there is no other split: one image cannot also judge")
    order = np.random.default_rng((seed, 32452843)).permutation(len(whole)).tolist()
    # An image that shows nothing cannot judge alone.
    order.insert(0, order.pop(next(i for i, number in enumerate(order) if whole[number].phrases)))
    count = min(max(1, round(HELD_BACK * len(whole))), most)
    return TrainAndJudge(
        whole.part(sorted(order[count:])),
        whole.part(sorted(order[:count])),
        held_back=True,
    )


def spread(dataset: ConceptDataset, most: int) -> ConceptDataset:
    """At most so many images, evenly spread over the dataset."""
    count = min(most, len(dataset))
    return dataset.part([i * len(dataset) // count for i in range(count)])


def _training(names: list[str]) -> str | None:
    """The split that is trained on unless told; None leaves the choice to `choose_split`."""
    if TRAIN in names:
        return TRAIN
    return names[0] if len(names) == 1 else None
