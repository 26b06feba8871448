"""What presence does to every (image, phrase) pair: found, lost to presence, falsely found.

A true detection is one whose box overlaps an object of its own by at least half (IoU). Each pair keeps a
handful of numbers, so any number of images fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.evaluation.average_precision import match_detections
from conceptseg.evaluation.presence_metrics import expected_calibration_error, presence_auroc
from conceptseg.evaluation.regions import region_iou
from conceptseg.presence_reading import PresenceReading


@dataclass(frozen=True)
class PairAnswer:
    """A model's answer to one pair, and what is true."""

    phrase: str
    present: bool
    presence_logit: float  # raw, before any calibration
    presence: float  # that the concept is there, as the model's config reads it
    best_class_logit: float
    objects: int  # annotated ones, 0 where not all of them are
    found_by_class: int  # objects with a query of their own whose class score passes the threshold
    found: int  # of those, the ones that still pass after presence
    detections_by_class: int
    detections: int


@dataclass(frozen=True)
class PresenceFigures:
    """Section by section what presence is worth; NaN where nothing can be said.

    Attributes:
        present_pairs: and `absent_pairs`, how many of each were asked.
        present_mean: of the raw presence logits of present pairs; `present_std` their standard deviation.
        absent_mean: likewise of absent pairs.
        auroc: chance that a present pair has a higher presence logit than an absent one.
        class_auroc: the same of the best class logit, which says what would be left without presence.
        ece: expected calibration error of presence as the model's config reads it; of raw presence where it
            ignores presence.
        found_by_class: share of annotated objects with a detection above the threshold by class score alone.
        found: the same after presence.
        lost_to_presence: share of true detections, by class score alone, that presence puts below the
            threshold.
        false_per_absent: detections per absent pair; `false_per_absent_ignoring` without presence.
        absent_with_detections: share of absent pairs with any detection; `..._ignoring` without presence.
    """

    present_pairs: int
    absent_pairs: int
    objects: int
    present_mean: float
    present_std: float
    absent_mean: float
    absent_std: float
    auroc: float
    class_auroc: float
    ece: float
    found_by_class: float
    found: float
    lost_to_presence: float
    false_per_absent: float
    false_per_absent_ignoring: float
    absent_with_detections: float
    absent_with_detections_ignoring: float

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PresenceFigures:
        """Of a report, which holds None for NaN."""
        read: dict[str, Any] = {k: math.nan if value is None else value for k, value in values.items()}
        return cls(**read)


def read_answer(
    phrase: str,
    class_logits: Tensor,
    presence_logit: float,
    boxes_xyxy: Tensor,
    objects_xyxy: Sequence[Sequence[float]],
    *,
    present: bool,
    exhaustive: bool,
    threshold: float,
    reading: PresenceReading,
) -> PairAnswer:
    """Count what one pair's queries found.

    Args:
        phrase: that was asked.
        class_logits: (N,) of the last layer.
        presence_logit: of the last layer, raw.
        boxes_xyxy: (N, 4), in the units of the objects.
        objects_xyxy: annotated objects, crowds left out.
        present: the phrase names something in the image.
        exhaustive: every object of the phrase is annotated.
        threshold: scores above it count.
        reading: of presence, the model's.
    """
    raw = torch.tensor(presence_logit, dtype=torch.float64)
    factor = float(reading.factor(raw))
    scores = class_logits.double().sigmoid().numpy()
    chosen = np.flatnonzero(scores > threshold)
    found_by_class = found = 0
    if exhaustive and len(objects_xyxy) and len(chosen):
        targets = np.asarray(objects_xyxy, dtype=np.float64)
        iou = region_iou(boxes_xyxy[torch.from_numpy(chosen)].double().numpy(), targets, "boxes")
        matches = match_detections(scores[chosen], iou, np.zeros(len(targets), bool))
        right = scores[chosen][matches.order[matches.found[0] >= 0]]  # row 0 is IoU 0.5
        found_by_class, found = len(right), int((right * factor > threshold).sum())
    return PairAnswer(
        phrase=phrase,
        present=present,
        presence_logit=presence_logit,
        presence=float(reading.probability(raw)),
        best_class_logit=float(class_logits.max()),
        objects=len(objects_xyxy) if exhaustive else 0,
        found_by_class=found_by_class,
        found=found,
        detections_by_class=len(chosen),
        detections=int((scores * factor > threshold).sum()),
    )


def presence_figures(answers: Sequence[PairAnswer]) -> PresenceFigures:
    """Sum up all pairs."""
    present = np.array([answer.present for answer in answers], dtype=bool)
    logits = _column(answers, "presence_logit")
    objects, by_class, found = (
        float(_column(answers, name).sum()) for name in ("objects", "found_by_class", "found")
    )
    absent = ~present
    detections, ignoring = _column(answers, "detections"), _column(answers, "detections_by_class")
    return PresenceFigures(
        present_pairs=int(present.sum()),
        absent_pairs=int(absent.sum()),
        objects=int(objects),
        present_mean=_mean(logits[present]),
        present_std=_std(logits[present]),
        absent_mean=_mean(logits[absent]),
        absent_std=_std(logits[absent]),
        auroc=presence_auroc(logits, present),
        class_auroc=presence_auroc(_column(answers, "best_class_logit"), present),
        ece=expected_calibration_error(_column(answers, "presence"), present),
        found_by_class=by_class / objects if objects else math.nan,
        found=found / objects if objects else math.nan,
        lost_to_presence=1 - found / by_class if by_class else math.nan,
        false_per_absent=_mean(detections[absent]),
        false_per_absent_ignoring=_mean(ignoring[absent]),
        absent_with_detections=_mean(detections[absent] > 0),
        absent_with_detections_ignoring=_mean(ignoring[absent] > 0),
    )


def _column(answers: Sequence[PairAnswer], name: str) -> NDArray[np.float64]:
    return np.array([getattr(answer, name) for answer in answers], dtype=np.float64)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std()) if len(values) else math.nan
