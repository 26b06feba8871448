"""Presence without a label: a folder of images and a list of phrases, and how far two models agree on them.

Nothing is known about what the images show, so nothing can be called right or wrong. What can be said is
whether a student gives its teacher's answers.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.data.concept_data import ConceptDataset, dataset_name
from conceptseg.data.concept_image import ConceptImage
from conceptseg.data.formats.image_files import images_in
from conceptseg.data.formats.split import Split, size_of_file
from conceptseg.distil.images import read_phrases
from conceptseg.errors import DataError
from conceptseg.presence.labelled_data import FitAndJudge
from conceptseg.presence.observe import observe
from conceptseg.presence.pair_outcomes import PairAnswer
from conceptseg.presence_reading import PresenceReading
from conceptseg.report import markdown_table
from conceptseg.segmenter import Segmenter

PHRASES_PER_IMAGE = 8  # drawn from the list, others for every image


@dataclass(frozen=True)
class Agreement:
    """A model's presence beside its teacher's, on pairs of which nothing else is known.

    Attributes:
        passing: share of pairs whose presence, as the model's config reads it, is above one half.
        same_answer: share of pairs on the same side of one half as the teacher's.
        difference: mean of |presence - teacher's presence|.
    """

    passing: float
    same_answer: float
    difference: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class PhrasesOfImages(Split):
    """Images, each with some phrases to ask: as absent ones, though nobody knows, and nobody looks."""

    layout = "images"
    samples_absent = False

    def __init__(self, source: Path, paths: Sequence[Path], phrases: Sequence[str]) -> None:
        self.source, self.phrases = source, tuple(phrases)
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        return [(path.name, path) for path in self._paths]

    def read(self, index: int) -> ConceptImage:
        path = self._paths[index]
        height, width = size_of_file(path)
        rng = np.random.default_rng((index, zlib.crc32(path.name.encode())))
        chosen = rng.permutation(len(self.phrases))[:PHRASES_PER_IMAGE]
        return ConceptImage(path, width, height, {}, tuple(self.phrases[int(i)] for i in sorted(chosen)))

    def has_masks(self) -> bool:
        return False


def unlabelled_data(
    folder: str | os.PathLike[str],
    phrases: str | os.PathLike[str],
    fit_limit: int | None = None,
    judge_limit: int | None = None,
) -> FitAndJudge:
    """Every second image to fit on, the others to compare on.

    Args:
        folder: of images.
        phrases: file with a phrase per line.
        fit_limit: images to fit on, at most.
        judge_limit: images to compare on, at most.

    Raises:
        DataError: too few images, or the list cannot be read.
    """
    listed, source = read_phrases(Path(phrases)), Path(folder)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder of images")
    paths = images_in(source)
    if len(paths) < 2:
        raise DataError(f"{source} holds {len(paths)} images; fitting and comparing need one each")
    fit, compare = paths[::2][:fit_limit], paths[1::2][:judge_limit]
    name = dataset_name(source)
    return FitAndJudge(
        ConceptDataset(name, "fitted", PhrasesOfImages(source, fit, listed)),
        ConceptDataset(name, "compared", PhrasesOfImages(source, compare, listed)),
    )


def agreement(model: Segmenter, teacher: Segmenter, images: ConceptDataset) -> Agreement:
    """Ask both the same."""
    seen = observe(model, images, teacher, count=len(images), compare=False)
    ours, theirs = _presence(model, seen.student), _presence(teacher, seen.teacher)
    return Agreement(
        passing=float((ours > 0.5).mean()),
        same_answer=float(((ours > 0.5) == (theirs > 0.5)).mean()),
        difference=float(np.abs(ours - theirs).mean()),
    )


def _presence(model: Segmenter, answers: Sequence[PairAnswer]) -> NDArray[np.float32]:
    """What it does to the scores of each pair; one that ignores presence lets all pass."""
    logits = torch.tensor([answer.presence_logit for answer in answers])
    return np.asarray(PresenceReading.of(model.config).factor(logits))


AGREEMENT_HEADINGS = ["", "pairs that pass", "the teacher's answer", "mean difference of presence"]


def agreement_rows(agreements: Mapping[str, Agreement]) -> list[list[str]]:
    """One row per model."""
    return [
        [name, f"{100 * it.passing:.1f}%", f"{100 * it.same_answer:.1f}%", f"{it.difference:.3f}"]
        for name, it in agreements.items()
    ]


def agreement_table(agreements: Mapping[str, Agreement]) -> str:
    """A Markdown table, one row each."""
    return markdown_table(AGREEMENT_HEADINGS, agreement_rows(agreements))
