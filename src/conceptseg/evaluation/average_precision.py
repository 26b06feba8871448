"""Average precision as COCO defines it, without keeping a dataset's detections.

`pycocotools.COCOeval` holds every mask of a dataset until it is asked for the result. Here each (image,
phrase) pair is matched when it comes, and what stays of a detection is its score and for each IoU threshold
one bit: found an object or not. The numbers are those of COCOeval to the last digit; overlaps are computed by
pycocotools itself.

Source: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312, and the behaviour of pycocotools 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conceptseg.evaluation.cgf1 import IOU_THRESHOLDS

RECALL_LEVELS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100  # best of a pair that count, as in COCO
_AT_50, _AT_75 = 0, 5
_BITS = (1 << np.arange(len(IOU_THRESHOLDS))).astype(np.uint16)


@dataclass(frozen=True)
class AveragePrecision:
    """Plain fractions; NaN where there is no object to find."""

    map: float  # mean over IoU 0.50, 0.55, ..., 0.95
    map50: float
    map75: float


@dataclass(frozen=True)
class Matches:
    """What the detections of one pair found.

    Attributes:
        order: (D,) the detections that count, best score first, as indices into those given.
        found: (T, D) index of the object that a detection takes at each IoU threshold, -1 for none.
        ignored: (T, D) it took a crowd, and is neither right nor wrong.
    """

    order: NDArray[np.int64]
    found: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def match_detections(
    scores: NDArray[np.floating],
    iou: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    max_detections: int = MAX_DETECTIONS,
) -> Matches:
    """Give each detection, best score first, the free object that it overlaps most.

    Args:
        scores: (P,).
        iou: (P, G), with crowds treated as in `region_iou`.
        crowd: (G,), objects that any number of detections may take; only those that find no single one do.
        max_detections: the rest is dropped.
    """
    order = np.argsort(-scores, kind="stable")[:max_detections]
    detections, objects = len(order), len(crowd)
    found = np.full((len(IOU_THRESHOLDS), detections), -1, np.int64)
    if not objects:
        return Matches(order, found, np.zeros(found.shape, bool))
    free = np.ones((len(IOU_THRESHOLDS), objects), bool)
    rows = np.arange(len(IOU_THRESHOLDS))
    for column, detection in enumerate(order):
        overlap = iou[detection]
        if overlap.max() < IOU_THRESHOLDS[0]:
            continue
        enough = free & (overlap >= IOU_THRESHOLDS[:, None])  # (T, G)
        single, group = enough & ~crowd, enough & crowd
        wanted = np.where(single.any(1, keepdims=True), single, group)
        # Of equal overlaps the last one, as in pycocotools.
        last_best = objects - 1 - np.where(wanted, overlap, -1.0)[:, ::-1].argmax(1)
        taken = np.where(wanted.any(1), last_best, -1)
        found[:, column] = taken
        hit = rows[taken >= 0]
        free[hit, taken[hit]] = crowd[taken[hit]]
    ignored = (found >= 0) & crowd[found]
    return Matches(order, found, ignored)


@dataclass
class PrecisionCounter:
    """The detections of one phrase over all images; add pairs in the order of the images."""

    objects: int = 0
    _scores: list[NDArray[np.float64]] = field(default_factory=list)
    _found: list[NDArray[np.uint16]] = field(default_factory=list)
    _ignored: list[NDArray[np.uint16]] = field(default_factory=list)

    def add(self, scores: NDArray[np.floating], matches: Matches, crowd: NDArray[np.bool_]) -> None:
        """Count one pair: ten bytes or so per detection stay."""
        self.objects += int((~crowd).sum())
        if len(matches.order):
            self._scores.append(np.asarray(scores, np.float64)[matches.order])
            self._found.append(_packed(matches.found >= 0))
            self._ignored.append(_packed(matches.ignored))

    def precision_at_recall(self) -> NDArray[np.float64]:
        """(T, 101) best precision at or beyond each recall level; NaN without any object to find."""
        levels = len(IOU_THRESHOLDS), len(RECALL_LEVELS)
        if not self.objects:
            return np.full(levels, np.nan)
        precision = np.zeros(levels)
        _, right, wrong = self._sorted()
        if not right.shape[1]:
            return precision
        true, false = right.cumsum(1).astype(float), wrong.cumsum(1).astype(float)  # (T, D)
        recall = true / self.objects
        reached = true / (true + false + np.spacing(1))
        envelope = np.maximum.accumulate(reached[:, ::-1], axis=1)[:, ::-1]
        for row in range(len(IOU_THRESHOLDS)):
            at = np.searchsorted(recall[row], RECALL_LEVELS, side="left")
            inside = at < envelope.shape[1]
            precision[row, inside] = envelope[row, at[inside]]
        return precision

    def compute(self) -> AveragePrecision:
        return average(self.precision_at_recall()[None])

    def by_score(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Scores in falling order, and which detections are right and which wrong at IoU 0.5: (D,) each."""
        scores, right, wrong = self._sorted()
        return scores, right[_AT_50], wrong[_AT_50]

    def _sorted(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Scores (D,), best first, and right and wrong detections (T, D) in the same order."""
        if not self._scores:
            nothing = np.zeros((len(IOU_THRESHOLDS), 0), bool)
            return np.zeros(0), nothing, nothing
        scores = np.concatenate(self._scores)
        order = np.argsort(-scores, kind="stable")
        found = _unpacked(np.concatenate(self._found)[order])
        ignored = _unpacked(np.concatenate(self._ignored)[order])
        return scores[order], found & ~ignored, ~found & ~ignored


def average(precision: NDArray[np.float64]) -> AveragePrecision:
    """(K, T, 101) precision of K phrases -> mean over those that have an object to find."""
    known = precision[~np.isnan(precision).any((1, 2))]
    if not len(known):
        return AveragePrecision(float("nan"), float("nan"), float("nan"))
    return AveragePrecision(
        float(known.mean()), float(known[:, _AT_50].mean()), float(known[:, _AT_75].mean())
    )


def _packed(flags: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(T, D) -> (D,), one bit per threshold."""
    packed: NDArray[np.uint16] = (flags * _BITS[:, None]).sum(0).astype(np.uint16)
    return packed


def _unpacked(packed: NDArray[np.uint16]) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = (packed & _BITS[:, None]) > 0
    return flags
