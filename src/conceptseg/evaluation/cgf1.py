"""cgF1: the official metric of concept segmentation.

Unit is an (image, phrase) pair. Two questions are asked apart and multiplied: is the concept in the image
(image-level Matthews correlation, IL-MCC), and where it is, are its objects found (positive micro-F1, pmF1)?
Predictions are cut at one score, 0.5, as in use; unlike average precision, a badly calibrated model pays.
Source: Carion et al. 2025, SAM 3, and its evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from conceptseg.errors import DataError, OptionError
from conceptseg.evaluation.regions import RegionKind, Rle, region_iou

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
INSTANCE_EPS = 1e-4  # in denominators of instance-level ratios, as in the official code
IMAGE_EPS = 1e-6  # in denominators of image-level ratios, as in the official code


@dataclass
class ConceptPair:
    """What was predicted and what is there, for one phrase in one image.

    Attributes:
        scores: (P,) in 0..1, presence included.
        predicted_masks: P RLEs or (P, H, W) bool; None where only boxes are evaluated.
        target_masks: G RLEs or (G, H, W) bool.
        predicted_boxes: (P, 4), x0 y0 x1 y1 in pixels; None where only masks are evaluated.
        target_boxes: (G, 4).
        ignored: (G,) bool, crowds and the like, which are left out of the ground truth; None for none.
        exhaustive: every object of the concept is annotated; other pairs are not counted.
    """

    scores: NDArray[Any]
    predicted_masks: Sequence[Rle] | NDArray[Any] | None = None
    target_masks: Sequence[Rle] | NDArray[Any] | None = None
    predicted_boxes: NDArray[Any] | None = None
    target_boxes: NDArray[Any] | None = None
    ignored: NDArray[np.bool_] | None = None
    exhaustive: bool = True


@dataclass(frozen=True)
class ConceptMetrics:
    """Plain fractions; those without a number in their name are means over IoU 0.50, 0.55, ..., 0.95."""

    cgf1: float
    cgf1_50: float
    cgf1_75: float
    il_mcc: float
    pmf1: float
    pmf1_50: float
    pmf1_75: float
    precision: float  # micro, over all pairs
    recall: float
    f1: float
    precision_50: float
    recall_50: float
    f1_50: float
    il_precision: float
    il_recall: float
    il_f1: float
    il_fpr: float
    pairs: int
    positive_pairs: int
    targets: int
    predictions: int

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain numbers, for JSON."""
        return asdict(self)


class ConceptEvaluator:
    """Add pairs one by one; keeps sums only, so that a dataset of any size fits.

    Args:
        kind: "masks" or "boxes", which regions of a pair are compared.
        score_threshold: predictions below it do not exist.
    """

    def __init__(self, kind: RegionKind = "masks", score_threshold: float = 0.5) -> None:
        if kind not in ("masks", "boxes"):
            raise OptionError(f'unknown regions "{kind}"; choose masks or boxes')
        self.kind: RegionKind = kind
        self.score_threshold = score_threshold
        self.true_positives = np.zeros(len(IOU_THRESHOLDS), np.int64)
        self.predictions_where_present = 0
        self.predictions = 0
        self.targets = 0
        self.image_level = {"tp": 0, "fp": 0, "tn": 0, "fn": 0}

    def add(self, pair: ConceptPair) -> None:
        """Count one pair; a pair that is not exhaustively annotated changes nothing.

        Raises:
            DataError: the regions to compare are missing, or their number differs from the scores'.
        """
        if not pair.exhaustive:
            return
        predicted, target = self._regions(pair)
        iou = region_iou(predicted, target, self.kind)
        if len(predicted) and len(target):
            # One assignment for all thresholds: it maximises the total overlap, not the number of matches.
            rows, columns = linear_sum_assignment(iou, maximize=True)
            assigned = iou[rows, columns]
            self.true_positives += (assigned[:, None] >= IOU_THRESHOLDS).sum(0)
        self.predictions += len(predicted)
        self.targets += len(target)
        if len(target):
            self.predictions_where_present += len(predicted)
        outcome = {(True, True): "tp", (False, True): "fp", (False, False): "tn", (True, False): "fn"}
        self.image_level[outcome[len(target) > 0, len(predicted) > 0]] += 1

    def merge(self, other: ConceptEvaluator) -> None:
        """Add the counts of another evaluator of the same kind and score threshold."""
        if (self.kind, self.score_threshold) != (other.kind, other.score_threshold):
            raise OptionError("evaluators of different regions or score thresholds cannot be merged")
        self.true_positives = self.true_positives + other.true_positives
        self.predictions_where_present += other.predictions_where_present
        self.predictions += other.predictions
        self.targets += other.targets
        for outcome, count in other.image_level.items():
            self.image_level[outcome] += count

    def compute(self) -> ConceptMetrics:
        """The metrics of all pairs so far; zeros where nothing was added."""
        tp = self.true_positives
        recall = tp / (self.targets + INSTANCE_EPS)
        # Only pairs with ground truth: false alarms elsewhere are the image level's to punish.
        positive_precision = tp / (self.predictions_where_present + INSTANCE_EPS)
        precision = tp / (self.predictions + INSTANCE_EPS)
        pmf1 = _harmonic(positive_precision, recall, INSTANCE_EPS)
        f1 = _harmonic(precision, recall, INSTANCE_EPS)
        mcc = float(_matthews_correlation(*self.image_level.values()))
        cgf1 = pmf1 * mcc
        at_50, at_75 = 0, 5
        image = self.image_level
        il_precision = image["tp"] / (image["tp"] + image["fp"] + IMAGE_EPS)
        il_recall = image["tp"] / (image["tp"] + image["fn"] + IMAGE_EPS)
        return ConceptMetrics(
            cgf1=float(cgf1.mean()),
            cgf1_50=float(cgf1[at_50]),
            cgf1_75=float(cgf1[at_75]),
            il_mcc=mcc,
            pmf1=float(pmf1.mean()),
            pmf1_50=float(pmf1[at_50]),
            pmf1_75=float(pmf1[at_75]),
            precision=float(precision.mean()),
            recall=float(recall.mean()),
            f1=float(f1.mean()),
            precision_50=float(precision[at_50]),
            recall_50=float(recall[at_50]),
            f1_50=float(f1[at_50]),
            il_precision=il_precision,
            il_recall=il_recall,
            il_f1=float(_harmonic(il_precision, il_recall, IMAGE_EPS)),
            il_fpr=image["fp"] / (image["fp"] + image["tn"] + IMAGE_EPS),
            pairs=sum(image.values()),
            positive_pairs=image["tp"] + image["fn"],
            targets=self.targets,
            predictions=self.predictions,
        )

    def counts(self) -> NDArray[np.int64]:
        """(C,) sums that cgF1 follows from (`cgf1_of`); those of several evaluators may be added."""
        instances = [*self.true_positives, self.predictions_where_present, self.targets]
        return np.array([*instances, *self.image_level.values()], np.int64)

    def _regions(self, pair: ConceptPair) -> tuple[Any, Any]:
        """Predictions above the score threshold, and ground truth that is not ignored."""
        if self.kind == "masks":
            predicted, target = pair.predicted_masks, pair.target_masks
        else:
            predicted, target = pair.predicted_boxes, pair.target_boxes
        if predicted is None or target is None:
            raise DataError(f"the pair has no {self.kind} to evaluate; give predicted and target {self.kind}")
        scores = np.asarray(pair.scores, dtype=np.float64)
        if len(scores) != len(predicted):
            raise DataError(f"{len(scores)} scores for {len(predicted)} predicted {self.kind}")
        kept = _select(predicted, scores >= self.score_threshold)
        if pair.ignored is None:
            return kept, target
        if len(pair.ignored) != len(target):
            raise DataError(f"{len(pair.ignored)} ignored flags for {len(target)} target {self.kind}")
        return kept, _select(target, ~np.asarray(pair.ignored, dtype=bool))


def cgf1_of(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Mean cgF1 over the IoU thresholds.

    Args:
        counts: (..., C) as `ConceptEvaluator.counts`, sums or weighted sums of them.

    Returns:
        (...)
    """
    thresholds = len(IOU_THRESHOLDS)
    tp, where_present, targets = (counts[..., :thresholds], *np.moveaxis(counts[..., thresholds:-4], -1, 0))
    precision, recall = (tp / (total[..., None] + INSTANCE_EPS) for total in (where_present, targets))
    pmf1: NDArray[np.float64] = _harmonic(precision, recall, INSTANCE_EPS).mean(-1)
    return pmf1 * _matthews_correlation(*np.moveaxis(counts[..., -4:], -1, 0))


def _matthews_correlation(tp: Any, fp: Any, tn: Any, fn: Any) -> Any:
    tp, fp, tn, fn = (np.asarray(count, np.float64) for count in (tp, fp, tn, fn))
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / (np.sqrt(spread) + IMAGE_EPS)


def _select(regions: Sequence[Rle] | NDArray[Any], chosen: NDArray[np.bool_]) -> Sequence[Rle] | NDArray[Any]:
    if isinstance(regions, np.ndarray):
        return regions[chosen]
    return [region for region, keep in zip(regions, chosen, strict=True) if keep]


def _harmonic(first: Any, second: Any, eps: float) -> Any:
    return 2 * first * second / (first + second + eps)
