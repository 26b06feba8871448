"""All metrics side by side, per phrase and over all: counted pair by pair.

What is kept of a pair is a presence score and some ten bytes per detection, so a dataset of any size fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.evaluation.average_precision import Matches, PrecisionCounter, average, match_detections
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptMetrics, ConceptPair
from conceptseg.evaluation.presence_metrics import expected_calibration_error, presence_auroc
from conceptseg.evaluation.regions import RegionKind, region_iou

REGION_KINDS: tuple[RegionKind, ...] = ("masks", "boxes")
# In the order of tables; the first eight are the headline figures.
REGION_METRICS = (
    "cgf1", "il_mcc", "pmf1", "map", "map50", "map75", "precision", "recall",
    "f1", "cgf1_50", "cgf1_75", "pmf1_50", "pmf1_75", "precision_50", "recall_50", "f1_50",
    "il_precision", "il_recall", "il_fpr",
)  # fmt: skip
WITH_CORRELATION = ("cgf1", "cgf1_50", "cgf1_75", "il_mcc")  # need images with the phrase and without
WHERE_PRESENT = ("pmf1", "pmf1_50", "pmf1_75")  # need images with it
SCORE_GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Curves:
    """What the figures show of one kind of region; NaN where nothing can be said.

    Attributes:
        precision_at_recall: (T, 101), mean over phrases.
        precision_at_score: (101,) at IoU 0.5, of all detections with a score of at least 0.00, 0.01, ..., 1.
        recall_at_score: (101,)
    """

    precision_at_recall: NDArray[np.float64]
    precision_at_score: NDArray[np.float64]
    recall_at_score: NDArray[np.float64]


@dataclass
class PhraseTally:
    """Everything about one phrase."""

    threshold: float
    kinds: Sequence[RegionKind]
    presence: list[float] = field(default_factory=list)
    presence_logits: list[float] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    concept: dict[RegionKind, ConceptEvaluator] = field(init=False)
    precision: dict[RegionKind, PrecisionCounter] = field(init=False)
    crowds: int = 0
    incomplete: int = 0

    def __post_init__(self) -> None:
        self.concept = {kind: ConceptEvaluator(kind, self.threshold) for kind in self.kinds}
        self.precision = {kind: PrecisionCounter() for kind in self.kinds}


class Tally:
    """Add pairs in the order of the images, then read the metrics.

    Args:
        kinds: which regions are compared; boxes alone where the data has no masks.
        threshold: lower scores do not count, but for average precision and the curves.
    """

    def __init__(self, kinds: Sequence[RegionKind], threshold: float) -> None:
        self.kinds = tuple(kinds)
        self.threshold = threshold
        self.phrases: dict[str, PhraseTally] = {}

    def add(self, phrase: str, pair: ConceptPair, presence: float, presence_logit: float) -> Matches | None:
        """Count one pair; `presence_logit` is raw, before any calibration.

        A pair of which not every object is annotated counts for presence alone.

        Returns:
            What the detections found, by masks where there are any; None for a pair that does not count.
        """
        if phrase not in self.phrases:
            self.phrases[phrase] = PhraseTally(self.threshold, self.kinds)
        tally = self.phrases[phrase]
        crowd = np.zeros(_targets(pair), bool) if pair.ignored is None else pair.ignored
        tally.presence.append(presence)
        tally.presence_logits.append(presence_logit)
        tally.present.append(bool(len(crowd)))  # a crowd is there, too
        if not pair.exhaustive:
            tally.incomplete += 1
            return None
        tally.crowds += int(crowd.sum())
        matches: dict[RegionKind, Matches] = {}
        for kind in self.kinds:
            tally.concept[kind].add(pair)
            predicted, target = (
                (pair.predicted_masks, pair.target_masks)
                if kind == "masks"
                else (pair.predicted_boxes, pair.target_boxes)
            )
            assert predicted is not None and target is not None  # the evaluator above has checked
            iou = region_iou(predicted, target, kind, crowd)
            matches[kind] = match_detections(pair.scores, iou, crowd)
            tally.precision[kind].add(pair.scores, matches[kind], crowd)
        return matches[self.kinds[0]]

    def metrics(self) -> dict[str, Any]:
        """`masks`, `boxes`, `presence`, `per_phrase` and `counts`; NaN where nothing can be said."""
        whole = self._metrics(list(self.phrases.values()))
        counts = whole.pop("counts")
        per_phrase = {phrase: self._of_phrase(phrase) for phrase in sorted(self.phrases)}
        return {**whole, "per_phrase": per_phrase, "counts": {**counts, "phrases": len(per_phrase)}}

    def curves(self) -> dict[RegionKind, Curves]:
        return {
            kind: _curves([tally.precision[kind] for tally in self.phrases.values()]) for kind in self.kinds
        }

    def presence(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Presence of all pairs, its raw logits, and whether the concept is there."""
        tallies = self.phrases.values()
        return (
            np.array([score for tally in tallies for score in tally.presence], dtype=float),
            np.array([logit for tally in tallies for logit in tally.presence_logits], dtype=float),
            np.array([yes for tally in tallies for yes in tally.present], dtype=bool),
        )

    def _of_phrase(self, phrase: str) -> dict[str, Any]:
        """Of a phrase that is everywhere, or nowhere, there is no correlation; 0 would read as a bad one."""
        metrics = self._metrics([self.phrases[phrase]])
        positive, absent = (metrics["counts"][name] for name in ("positive_pairs", "absent_pairs"))
        undefined: list[str] = []
        if not (positive and absent):
            undefined += WITH_CORRELATION
        if not positive:
            undefined += WHERE_PRESENT
        for kind in REGION_KINDS:
            metrics[kind].update(dict.fromkeys(undefined, float("nan")))
        return metrics

    def _metrics(self, tallies: Sequence[PhraseTally]) -> dict[str, Any]:
        presence = [score for tally in tallies for score in tally.presence]
        present = [yes for tally in tallies for yes in tally.present]
        regions: dict[str, Any] = {kind: dict.fromkeys(REGION_METRICS, float("nan")) for kind in REGION_KINDS}
        counted: ConceptMetrics | None = None
        for kind in self.kinds:
            counted = _merged((tally.concept[kind] for tally in tallies), kind, self.threshold)
            precision = _precision([tally.precision[kind] for tally in tallies])
            values = {**counted.to_dict(), **vars(average(precision))}
            regions[kind] = {name: values[name] for name in REGION_METRICS}
        assert counted is not None  # there are always boxes
        return {
            **regions,
            "presence": {
                "auroc": presence_auroc(presence, present),
                "ece": expected_calibration_error(presence, present),
            },
            "counts": {
                "pairs": len(present),
                "positive_pairs": sum(present),
                "absent_pairs": len(present) - sum(present),
                "incomplete_pairs": sum(tally.incomplete for tally in tallies),
                "objects": counted.targets,
                "crowds": sum(tally.crowds for tally in tallies),
                "predictions": counted.predictions,
            },
        }


def _targets(pair: ConceptPair) -> int:
    return len(pair.target_boxes) if pair.target_boxes is not None else 0


def _merged(evaluators: Iterable[ConceptEvaluator], kind: RegionKind, threshold: float) -> ConceptMetrics:
    total = ConceptEvaluator(kind, threshold)
    for evaluator in evaluators:
        total.merge(evaluator)
    return total.compute()


def _precision(counters: Sequence[PrecisionCounter]) -> NDArray[np.float64]:
    """(K, T, 101), K may be 0."""
    each = [counter.precision_at_recall() for counter in counters]
    return np.stack(each) if each else PrecisionCounter().precision_at_recall()[None]


def _curves(counters: Sequence[PrecisionCounter]) -> Curves:
    precision = _precision(counters)
    known = precision[~np.isnan(precision).any((1, 2))]
    parts = [counter.by_score() for counter in counters] or [PrecisionCounter().by_score()]
    scores, right, wrong = (np.concatenate(column) for column in zip(*parts, strict=True))  # (D,) each
    order = np.argsort(-scores, kind="stable")
    # How many detections reach each score of the grid, and how many of those are right.
    reaching = np.searchsorted(-scores[order], -SCORE_GRID, side="right")
    true, false = (np.concatenate([[0], flags[order].cumsum()])[reaching] for flags in (right, wrong))
    objects = sum(counter.objects for counter in counters)
    found = (true + false).astype(float)
    found[found == 0] = np.nan
    return Curves(
        precision_at_recall=known.mean(0) if len(known) else precision[0],
        precision_at_score=true / found,
        recall_at_score=true / objects if objects else np.full(len(true), np.nan),
    )
