"""A model before and after a repair: what repairs are for, measured on images that were not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.evaluation.evaluate import evaluate
from conceptseg.presence.observe import observe
from conceptseg.presence.pair_outcomes import presence_figures
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


def judge(
    segmenter: Segmenter,
    dataset: ConceptDataset,
    threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Ask every phrase of every image twice: as in use, and looking inside.

    Args:
        segmenter: the model that is judged.
        dataset: labelled images.
        threshold: working threshold.
        progress: as of `evaluate` and of `observe`, which both go through the images.
    """
    result = evaluate(segmenter, dataset, threshold=threshold, worst=0, progress=progress)
    regions = result.masks if dataset.has_masks else result.boxes
    seen = observe(
        segmenter, dataset, count=len(dataset), threshold=threshold, compare=False, progress=progress
    )
    figures = presence_figures(seen.student)
    return Judgement(
        cgf1=regions["cgf1"],
        il_mcc=regions["il_mcc"],
        pmf1=regions["pmf1"],
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
