"""The data that presence is judged and fitted on: a labelled dataset, or procedural scenes ("scenes").

Fitting and judging never share an image: a dataset with a training split is fitted on that and judged on the
held-out one; of a dataset with one split every second image is for fitting.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.formats.recognise import find_splits
from conceptseg.data.scene_batches import SCENES, is_scenes
from conceptseg.data.scenes import make_scenes
from conceptseg.errors import DataError, OptionError

TRAIN = "train"


@dataclass(frozen=True)
class FitAndJudge:
    """Two parts without a common image."""

    fit: ConceptDataset
    judge: ConceptDataset


@contextlib.contextmanager
def judging_data(
    data: str | os.PathLike[str], split: str | None = None, limit: int | None = None, seed: int = 0
) -> Iterator[ConceptDataset]:
    """Images to judge on.

    Args:
        data: dataset, or "scenes", of which held-out ones are drawn.
        split: of a dataset; None for the held-out one, or the only one.
        limit: take the first so many images only; for scenes None draws 100.
        seed: of the scenes.

    Raises:
        DataError, OptionError: as `open_dataset`.
    """
    _check_limit(limit)
    if is_scenes(data):
        with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
            yield _scenes(folder, split or "held_out", limit or 100, seed)
        return
    dataset = open_dataset(data, split)
    yield dataset if limit is None else dataset.part(range(min(limit, len(dataset))))


@contextlib.contextmanager
def fitting_data(
    data: str | os.PathLike[str],
    fit_limit: int | None = None,
    judge_limit: int | None = None,
    seed: int = 0,
) -> Iterator[FitAndJudge]:
    """Images to fit on and others to judge on.

    Args:
        data: dataset, or "scenes".
        fit_limit: images to fit on, at most; for scenes None draws 100.
        judge_limit: images to judge on, at most; likewise.
        seed: of the scenes.

    Raises:
        DataError: one image is too few for two parts; and as `open_dataset`.
    """
    _check_limit(fit_limit)
    _check_limit(judge_limit)
    if is_scenes(data):
        with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
            fit = _scenes(folder, TRAIN, fit_limit or 100, seed)
            yield FitAndJudge(fit, _scenes(folder, "held_out", judge_limit or 100, seed))
        return
    splits = find_splits(data)
    if TRAIN in splits and len(splits) > 1:
        parts = FitAndJudge(open_dataset(data, TRAIN), open_dataset(data))
    else:
        whole = open_dataset(data)
        if len(whole) < 2:
            raise DataError(f"{os.fspath(data)} has {len(whole)} images; fitting and judging need one each")
        parts = FitAndJudge(whole.part(range(0, len(whole), 2)), whole.part(range(1, len(whole), 2)))
    yield FitAndJudge(_first(parts.fit, fit_limit), _first(parts.judge, judge_limit))


def _scenes(folder: str, split: str, count: int, seed: int) -> ConceptDataset:
    home = Path(folder) / SCENES  # reports call a dataset by its folder
    make_scenes(home, count, seed, split=split)
    return open_dataset(home, split)


def _first(dataset: ConceptDataset, limit: int | None) -> ConceptDataset:
    return dataset if limit is None else dataset.part(range(min(limit, len(dataset))))


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise OptionError(f"limit is {limit}; take at least one image")
