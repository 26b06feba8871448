from __future__ import annotations

import numpy as np
import pytest

from conceptseg.errors import DataError, OptionError
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptMetrics, ConceptPair
from conceptseg.evaluation.regions import encode_masks


def box_pair(
    predicted: list[list[float]], target: list[list[float]], scores: list[float] | None = None
) -> ConceptPair:
    return ConceptPair(
        scores=np.array(scores if scores is not None else [0.9] * len(predicted)),
        predicted_boxes=np.array(predicted, dtype=float).reshape(-1, 4),
        target_boxes=np.array(target, dtype=float).reshape(-1, 4),
    )


def evaluate(*pairs: ConceptPair) -> ConceptMetrics:
    evaluator = ConceptEvaluator("boxes")
    for pair in pairs:
        evaluator.add(pair)
    return evaluator.compute()


A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def test_toy_set_gives_the_official_value_not_the_forks() -> None:
    # Five pairs. Image level: two found, one missed, one false alarm, one true negative:
    #   MCC = (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2) = 1/6
    # Where the concept is: 2 objects found, 1 prediction too many, 1 object missed:
    #   P+ = 2/3, R = 2/3, pmF1 = 2/3 and cgF1 = 1/9
    # Counting the two false alarms of the absent pair in P+ too: P+ = 2/5, pmF1 = 0.5, cgF1 = 0.083.
    metrics = evaluate(
        box_pair([A, C], [A]), box_pair([B], [B]), box_pair([], [A]), box_pair([A, B], []), box_pair([], [])
    )
    assert metrics.il_mcc == pytest.approx(1 / 6, abs=1e-4)
    assert metrics.pmf1 == pytest.approx(0.667, abs=1e-3)
    assert metrics.cgf1 == pytest.approx(0.111, abs=1e-3)
    # Micro values do count them: precision 2/5, recall 2/3, F1 = 2 * 2 / (5 + 3)
    assert metrics.precision == pytest.approx(0.4, abs=1e-3)
    assert metrics.recall == pytest.approx(2 / 3, abs=1e-3)
    assert metrics.f1 == pytest.approx(0.5, abs=1e-3)
    # Image level: precision and recall 2/3, one of two absent pairs answered
    assert metrics.il_precision == pytest.approx(2 / 3, abs=1e-3)
    assert metrics.il_recall == pytest.approx(2 / 3, abs=1e-3)
    assert metrics.il_fpr == pytest.approx(0.5, abs=1e-3)
    assert (metrics.pairs, metrics.positive_pairs, metrics.targets, metrics.predictions) == (5, 3, 3, 5)


def test_overlap_decides_at_how_many_thresholds_an_object_counts() -> None:
    # Overlap 7.6 x 10 of union 10 x 10: 0.76, enough for 0.50 ... 0.75, six of ten thresholds.
    metrics = evaluate(box_pair([[0, 0, 7.6, 10]], [A]), box_pair([], []))
    assert metrics.il_mcc == pytest.approx(1, abs=1e-4)
    assert metrics.pmf1 == pytest.approx(0.6, abs=1e-3)
    assert metrics.pmf1_50 == pytest.approx(1, abs=1e-3)
    assert metrics.pmf1_75 == pytest.approx(1, abs=1e-3)
    assert metrics.cgf1_75 == pytest.approx(1, abs=1e-3)


def test_an_overlap_exactly_at_a_threshold_counts() -> None:
    # 5 of 10 columns: exactly 0.5, so one threshold of ten
    metrics = evaluate(box_pair([[0, 0, 5, 10]], [A]), box_pair([], []))
    assert metrics.pmf1_50 == pytest.approx(1, abs=1e-3)
    assert metrics.pmf1 == pytest.approx(0.1, abs=1e-3)


def test_one_assignment_maximises_total_overlap_even_at_the_cost_of_a_match() -> None:
    # Targets T1 = 0..10, T2 = 4..14 (columns; all 10 high). Predictions P1 = 0..10, P2 = 0..6.
    #   IoU(P1,T1) = 1, IoU(P1,T2) = 6/14 = 0.43, IoU(P2,T1) = 0.6, IoU(P2,T2) = 2/14 = 0.14
    # Totals 1 + 0.14 = 1.14 against 0.43 + 0.6 = 1.03: P1 takes T1, and P2 is false at every threshold.
    metrics = evaluate(box_pair([[0, 0, 10, 10], [0, 0, 6, 10]], [[0, 0, 10, 10], [4, 0, 14, 10]]))
    assert metrics.recall == pytest.approx(0.5, abs=1e-3)
    assert metrics.precision == pytest.approx(0.5, abs=1e-3)


def test_a_prediction_that_misses_everything_still_says_present() -> None:
    metrics = evaluate(box_pair([C], [A]), box_pair([], []))
    assert metrics.il_mcc == pytest.approx(1, abs=1e-4)
    assert metrics.pmf1 == 0


def test_predictions_below_the_score_threshold_do_not_exist() -> None:
    with_weak = evaluate(box_pair([A, B], [A], scores=[0.5, 0.49]), box_pair([A], [], scores=[0.3]))
    assert with_weak == evaluate(box_pair([A], [A]), box_pair([], []))


def test_ignored_objects_are_not_ground_truth() -> None:
    pair = box_pair([A], [A, B])
    pair.ignored = np.array([False, True])
    assert evaluate(pair) == evaluate(box_pair([A], [A]))


def test_pairs_not_annotated_exhaustively_are_not_counted() -> None:
    pair = box_pair([A], [])
    pair.exhaustive = False
    assert evaluate(pair, box_pair([A], [A])).pairs == 1


def test_masks_and_their_rle_give_the_same_metrics() -> None:
    predicted, target = np.zeros((2, 8, 8), bool), np.zeros((1, 8, 8), bool)
    predicted[0, 2:6, 2:6] = predicted[1, 7, 7] = True
    target[0, 2:6, 2:7] = True  # overlap 16 of 20 pixels: 0.8
    results = []
    for first, second in ((predicted, target), (encode_masks(predicted), encode_masks(target))):
        evaluator = ConceptEvaluator("masks")
        evaluator.add(ConceptPair(np.array([0.9, 0.8]), first, second))
        results.append(evaluator.compute())
    assert results[0] == results[1]
    assert results[0].recall == pytest.approx(0.7, abs=1e-3)  # 0.50 ... 0.80
    assert results[0].precision == pytest.approx(0.35, abs=1e-3)


def test_merged_evaluators_equal_one_that_saw_everything() -> None:
    pairs = [box_pair([A, C], [A]), box_pair([], [B]), box_pair([A], []), box_pair([], [])]
    first, second = ConceptEvaluator("boxes"), ConceptEvaluator("boxes")
    for index, pair in enumerate(pairs):
        (first if index % 2 else second).add(pair)
    first.merge(second)
    assert first.compute() == evaluate(*pairs)
    with pytest.raises(OptionError, match="cannot be merged"):
        first.merge(ConceptEvaluator("masks"))


def test_nothing_added_gives_zeros_not_nan() -> None:
    metrics = ConceptEvaluator().compute()
    assert metrics.cgf1 == metrics.il_mcc == metrics.pmf1 == 0
    assert metrics.pairs == 0


def test_pairs_without_the_regions_to_compare_are_refused() -> None:
    with pytest.raises(DataError, match="the pair has no masks to evaluate"):
        ConceptEvaluator("masks").add(box_pair([A], [A]))
    with pytest.raises(DataError, match="1 scores for 2 predicted boxes"):
        ConceptEvaluator("boxes").add(box_pair([A, B], [A], scores=[0.9]))
    with pytest.raises(DataError, match="different sizes"):
        ConceptEvaluator().add(ConceptPair(np.ones(1), np.ones((1, 4, 4), bool), np.ones((1, 5, 4), bool)))
    with pytest.raises(OptionError, match='unknown regions "points"'):
        ConceptEvaluator("points")  # type: ignore[arg-type]  # the point of the test
