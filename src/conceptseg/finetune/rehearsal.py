"""Steps on old pictures between those on new ones.

Which step is which follows from its number alone, evenly spread. So a resumed run goes on as it would have,
and all processes see old pictures in the same step.
"""

from __future__ import annotations

import math
from pathlib import Path

from conceptseg.data.batch import Batch
from conceptseg.data.concept_batches import ConceptBatches
from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.formats.recognise import find_splits
from conceptseg.data.scenes import make_scenes
from conceptseg.errors import DataError
from conceptseg.finetune.forgetting import KeepConfig
from conceptseg.finetune.splits import TRAIN

FOLDER = "rehearsal"  # in the run folder, while it trains


class RehearsedBatches:
    """Batches of new data, with a batch of old data in place of every so many."""

    def __init__(self, new: ConceptBatches, old: ConceptBatches, share: float) -> None:
        """Args:
        new: as many batches as the run has steps, at least.
        old: likewise.
        share: of the steps that are the old data's, 0 to below 1.
        """
        self.new, self.old, self.share = new, old, share
        self.workers = new.workers

    def __len__(self) -> int:
        return len(self.new)

    def __getitem__(self, step: int) -> Batch:
        batches, number = self._place(step)
        return batches[number]

    def side(self, step: int) -> int:
        """Side in pixels of a step's images."""
        batches, number = self._place(step)
        return batches.side(number)

    def _place(self, step: int) -> tuple[ConceptBatches, int]:
        """Whose turn it is, and how many turns that one has had."""
        rehearsed = rehearsals(step, self.share)
        if rehearsals(step + 1, self.share) > rehearsed:
            return self.old, rehearsed
        return self.new, step - rehearsed


def rehearsals(steps: int, share: float) -> int:
    """How many of the first steps of a run rehearse."""
    return math.floor(steps * share + 1e-9)


def draw_scenes(folder: Path, keep: KeepConfig, seed: int) -> None:
    """Draw the scenes that a run rehearses, unless they are there already."""
    if not (folder / TRAIN).is_dir():  # which appears when it is complete
        make_scenes(folder, keep.scenes, seed, split=TRAIN)


def open_rehearsal(data: str | Path) -> ConceptDataset:
    """The old data: its split `train`, or the only one.

    Raises:
        DataError: it cannot be read, or names no object.
    """
    names = list(find_splits(data))
    dataset = open_dataset(data, TRAIN if TRAIN in names else None)
    if not any(image.phrases for image in dataset):
        raise DataError(f"{data}: the split {dataset.split} has nothing to rehearse: it names no object")
    return dataset
