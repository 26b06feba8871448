from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conceptseg.evaluation.average_precision import (
    AveragePrecision,
    PrecisionCounter,
    average,
    match_detections,
)
from conceptseg.evaluation.regions import RegionKind, encode_masks, region_iou

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
NOWHERE = [60, 0, 70, 10]


def counted(*pairs: tuple[list[float], list[list[float]], list[list[float]], list[bool]]) -> PrecisionCounter:
    """Scores, predicted boxes, target boxes and crowd flags of pairs -> their counter."""
    counter = PrecisionCounter()
    for scores, predicted, target, crowd in pairs:
        values, flags = np.array(scores), np.array(crowd, dtype=bool)
        iou = region_iou(
            np.array(predicted, float).reshape(-1, 4), np.array(target, float).reshape(-1, 4), "boxes", flags
        )
        counter.add(values, match_detections(values, iou, flags), flags)
    return counter


def test_one_of_two_objects_found_first_and_then_a_false_one() -> None:
    # Recall 1/2 at precision 1, never more: 51 of the 101 recall levels (0.00 ... 0.50) have precision 1.
    result = counted(([0.9, 0.8], [A, NOWHERE], [A, B], [False] * 2)).compute()
    assert result.map50 == pytest.approx(51 / 101)
    assert result.map == pytest.approx(51 / 101)


def test_a_false_detection_with_the_best_score_halves_the_precision() -> None:
    # Best is false, then the object: precision 1/2 at recall 1, for all levels.
    assert counted(([0.9, 0.8], [NOWHERE, A], [A], [False])).compute().map50 == pytest.approx(0.5)


def test_precision_at_a_level_is_the_best_beyond_it() -> None:
    # Right, wrong, right over two objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    # 51 levels at 1 and 50 levels at 2/3.
    result = counted(([0.9, 0.8, 0.7], [A, NOWHERE, B], [A, B], [False] * 2)).compute()
    assert result.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_overlap_decides_the_thresholds_that_count() -> None:
    # 7.6 of 10 columns: enough for 0.50 ... 0.75, six thresholds of ten
    result = counted(([0.9], [[0, 0, 7.6, 10]], [A], [False])).compute()
    assert result == AveragePrecision(map=pytest.approx(0.6), map50=pytest.approx(1), map75=pytest.approx(1))


def test_a_second_detection_of_the_same_object_is_false() -> None:
    # Scores 0.9 right, 0.8 repeats it, 0.7 right: precision 2/3 at full recall
    result = counted(([0.9, 0.8, 0.7], [A, A, B], [A, B], [False] * 2)).compute()
    assert result.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_detections_on_a_crowd_are_neither_right_nor_wrong() -> None:
    crowd = [0, 20, 60, 60]
    result = counted(
        ([0.9, 0.8, 0.7], [[0, 20, 10, 30], [20, 40, 30, 50], A], [crowd, A], [True, False])
    ).compute()
    assert result.map50 == pytest.approx(1)


def test_only_the_best_hundred_of_an_image_count() -> None:
    scores = [0.9 - 0.001 * i for i in range(100)] + [0.1]
    assert counted((scores, [NOWHERE] * 100 + [A], [A], [False])).compute().map50 == 0


def test_no_detection_is_zero_and_no_object_is_undefined() -> None:
    assert counted(([], [], [A], [False])).compute().map == 0
    assert math.isnan(counted(([0.9], [A], [], [])).compute().map)


def test_phrases_without_objects_are_left_out_of_the_mean() -> None:
    perfect = counted(([0.9], [A], [A], [False])).precision_at_recall()
    missed = counted(([], [], [A], [False])).precision_at_recall()
    absent = counted(([0.9], [A], [], [])).precision_at_recall()
    assert average(np.stack([perfect, missed, absent])).map == pytest.approx(0.5)
    assert math.isnan(average(absent[None]).map50)


def test_detections_by_score_for_curves() -> None:
    counter = counted(([0.5], [NOWHERE], [A], [False]), ([0.9, 0.3], [A, B], [A, B], [False] * 2))
    scores, right, wrong = counter.by_score()
    assert scores.tolist() == [0.9, 0.5, 0.3]
    assert right.tolist() == [True, False, True]
    assert wrong.tolist() == [False, True, False]
    assert counter.objects == 3


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools_on_the_same_detections(kind: RegionKind, seed: int) -> None:
    pairs = random_pairs(seed)
    reference = by_pycocotools(pairs, kind)
    counters = [PrecisionCounter() for _ in range(PHRASES)]
    for pair in pairs:
        iou = region_iou(pair[kind][0], pair[kind][1], kind, pair["crowd"])
        matches = match_detections(pair["scores"], iou, pair["crowd"])
        counters[pair["phrase"]].add(pair["scores"], matches, pair["crowd"])
    ours = np.stack([counter.precision_at_recall() for counter in counters])  # (K, T, 101)
    theirs = reference.eval["precision"][:, :, :, 0, -1].transpose(2, 0, 1)
    np.testing.assert_array_equal(np.nan_to_num(ours, nan=-1), theirs)
    result = average(ours)
    assert [result.map, result.map50, result.map75] == pytest.approx(reference.stats[:3], abs=1e-12)


PHRASES, IMAGES, SIDE = 3, 8, 48


def random_pairs(seed: int) -> list[dict[str, Any]]:
    """Detections near and far from objects, repeated ones, equal scores and overlaps, crowds, empty pairs."""
    rng = np.random.default_rng(seed)
    pairs = []
    for image in range(IMAGES):
        for phrase in range(PHRASES):
            targets = random_boxes(rng, int(rng.integers(0, 6)))
            near = targets[rng.integers(0, len(targets), 8)] if len(targets) else targets
            near = near + rng.integers(-3, 4, near.shape)
            predicted = np.clip(np.concatenate([near, near[:2], random_boxes(rng, 4)]), 0, SIDE)
            predicted[:, 2:] = np.maximum(predicted[:, 2:], predicted[:, :2] + 1)
            if rng.random() < 0.2:
                predicted = predicted[:0]
            pairs.append(
                {
                    "image": image + 1,
                    "phrase": phrase,
                    "scores": rng.integers(1, 20, len(predicted)) / 20,  # with ties
                    "crowd": rng.random(len(targets)) < 0.25,
                    "boxes": (predicted.astype(float), targets.astype(float)),
                    "masks": (filled(predicted), filled(targets)),
                }
            )
    return pairs


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.integers(0, SIDE - 12, (count, 2))
    return np.concatenate([corners, corners + rng.integers(4, 16, (count, 2))], axis=1)


def filled(boxes: np.ndarray) -> list[dict[str, Any]]:
    masks = np.zeros((len(boxes), SIDE, SIDE + 16), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return encode_masks(masks)


def by_pycocotools(pairs: list[dict[str, Any]], kind: RegionKind) -> COCOeval:
    """COCOeval as its own users run it, on files' worth of dictionaries."""
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for pair in pairs:
        for side, out in enumerate((detections, truth)):
            for number, (box, rle) in enumerate(zip(pair["boxes"][side], pair["masks"][side], strict=True)):
                x0, y0, x1, y1 = box.tolist()
                entry = {
                    "id": len(out) + 1,
                    "image_id": pair["image"],
                    "category_id": pair["phrase"] + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                }
                if kind == "masks":
                    entry["segmentation"] = rle
                extra = {"iscrowd": int(pair["crowd"][number])} if side else {"score": pair["scores"][number]}
                out.append({**entry, **extra})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i + 1, "width": SIDE + 16, "height": SIDE} for i in range(IMAGES)],
            "categories": [{"id": k + 1, "name": str(k)} for k in range(PHRASES)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "segm" if kind == "masks" else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
