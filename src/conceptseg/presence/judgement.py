"""A model before and after a repair: what repairs are for, measured on images that were not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.errors import DataError
from conceptseg.evaluation.cgf1 import ConceptEvaluator
from conceptseg.evaluation.evaluate import as_pair
from conceptseg.evaluation.questions import Asker
from conceptseg.presence.observe import observe
from conceptseg.presence.pair_outcomes import PairAnswer, presence_figures
from conceptseg.report import markdown_table, percent, shown
from conceptseg.segmenter import Segmenter


@dataclass(frozen=True)
class Judgement:
    """Plain fractions, logits and counts; NaN where nothing can be said.

    Attributes:
        cgf1: of masks, or of boxes where the data has no masks; so are `il_mcc` and `pmf1`.
        auroc: of the raw presence logits.
        ece: of presence as the config reads it.
        found: share of objects that are found (box IoU at least 0.5).
        lost_to_presence: share of true detections that presence takes.
        false_per_absent: detections per absent phrase.
        absent_with_detections: share of absent pairs with any detection.
        present_mean: mean raw presence logit of present pairs, and of absent ones `absent_mean`.
    """

    cgf1: float
    il_mcc: float
    pmf1: float
    auroc: float
    ece: float
    found: float
    lost_to_presence: float
    false_per_absent: float
    absent_with_detections: float
    present_mean: float
    absent_mean: float

    def to_dict(self) -> dict[str, float | None]:
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> Judgement:
        return cls(**{name: math.nan if value is None else value for name, value in values.items()})


@dataclass(frozen=True)
class JudgedImage:
    """What a judgement follows from, of one image.

    Attributes:
        concept: counts of cgF1, those of masks where the data has masks, else of boxes.
        answers: of every phrase that was asked.
    """

    concept: ConceptEvaluator
    answers: Sequence[PairAnswer]

    def to_dict(self) -> dict[str, Any]:
        """Numbers for JSON: counts, and lists that are parallel to `present`."""
        columns = ("present", "presence_logit", "objects", "found_by_class", "found", "detections")
        return {
            "counts": self.concept.counts().tolist(),
            **{name: [getattr(answer, name) for answer in self.answers] for name in columns},
        }


# (field, heading, shown x 100)
COLUMNS = (
    ("cgf1", "cgF1", True),
    ("il_mcc", "IL-MCC", False),
    ("pmf1", "pmF1", True),
    ("false_per_absent", "false per absent phrase", False),
    ("absent_with_detections", "absent phrases with detections", True),
    ("lost_to_presence", "lost to presence", True),
    ("auroc", "presence AUROC", False),
    ("ece", "calibration error", False),
    ("present_mean", "logit, present", False),
    ("absent_mean", "logit, absent", False),
)


def judge(segmenter: Segmenter, dataset: ConceptDataset, threshold: float = 0.5) -> Judgement:
    """Ask every phrase of every image; see `judge_images`."""
    return summed_up(judge_images(segmenter, dataset, threshold))


def judge_images(
    segmenter: Segmenter,
    dataset: ConceptDataset,
    threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> list[JudgedImage]:
    """Ask every phrase of every image twice: as in use, and looking inside.

    Args:
        segmenter: the model that is judged.
        dataset: labelled images.
        threshold: working threshold.
        progress: called with the number of images that are done and the number wanted.

    Raises:
        DataError, ImageError: as `evaluate`.
    """
    count = len(dataset)
    if not count:
        raise DataError(f"{dataset.name}: the split {dataset.split} has no image to judge on")
    asker = Asker(segmenter, dataset, "text", count=count, threshold=threshold, least_score=threshold)
    judged = []
    for number in range(count):
        image = dataset[number]
        concept = ConceptEvaluator("masks" if dataset.has_masks else "boxes", threshold)
        for answer in asker.answers(image):
            concept.add(as_pair(answer, with_masks=dataset.has_masks))
        seen = observe(segmenter, [image], count=1, threshold=threshold, compare=False)
        judged.append(JudgedImage(concept, seen.student))
        if progress is not None:
            progress(number + 1, count)
    return judged


def summed_up(images: Sequence[JudgedImage]) -> Judgement:
    """The figures of all images together."""
    total = ConceptEvaluator(images[0].concept.kind, images[0].concept.score_threshold)
    for image in images:
        total.merge(image.concept)
    concept = total.compute()
    figures = presence_figures([answer for image in images for answer in image.answers])
    return Judgement(
        cgf1=concept.cgf1,
        il_mcc=concept.il_mcc,
        pmf1=concept.pmf1,
        auroc=figures.auroc,
        ece=figures.ece,
        found=figures.found,
        lost_to_presence=figures.lost_to_presence,
        false_per_absent=figures.false_per_absent,
        absent_with_detections=figures.absent_with_detections,
        present_mean=figures.present_mean,
        absent_mean=figures.absent_mean,
    )


def judgement_row(judgement: Judgement) -> list[str]:
    """One cell per column of `COLUMNS`."""
    values = [(getattr(judgement, name), large) for name, _, large in COLUMNS]
    return [percent(value) if large else shown(value, ".3f") for value, large in values]


def judgement_table(judgements: Mapping[str, Judgement]) -> str:
    """A Markdown table, one row each."""
    rows = [[name, *judgement_row(judgement)] for name, judgement in judgements.items()]
    return markdown_table(["", *(heading for _, heading, _ in COLUMNS)], rows)
