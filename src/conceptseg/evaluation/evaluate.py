"""Evaluate a model on a labelled dataset: every metric at once, image by image.

    result = evaluate(cs.load("nano"), open_dataset("data/nuclei"))
    result.masks["map50"], result.metrics["per_phrase"]["nucleus"]
    write_evaluation(result, "evaluation")  # of evaluation.report: metrics.json, report.md, figures

Images, masks and detections are let go as soon as they are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from conceptseg.choices import PresenceMode, PromptKind
from conceptseg.data.concept_data import ConceptDataset, ConceptObject
from conceptseg.errors import DataError, OptionError
from conceptseg.evaluation.cgf1 import ConceptPair
from conceptseg.evaluation.mistakes import Mistake, WorstMistakes
from conceptseg.evaluation.questions import LEAST_SCORE, Answer, Asker
from conceptseg.evaluation.regions import RegionKind, Rle
from conceptseg.evaluation.tally import REGION_KINDS, Curves, Tally
from conceptseg.prompts import check_phrases, check_thresholds
from conceptseg.segmenter import Segmenter

WORST = 8  # pictures of misses, and as many of false positives


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found; `evaluation.report.write_evaluation` writes it down.

    Attributes:
        metrics: `masks`, `boxes`, `presence`, `per_phrase`, `counts`: plain fractions and counts, NaN where
            nothing can be said, as for the masks of data that has boxes only.
        setup: what was evaluated, and how.
        curves: precision and recall, for the figures.
        presence_scores: one per pair; `presence_logits` are what they were read from.
        presence_labels: whether the concept is there.
        misses: the pairs with the most missed objects.
        false_positives: the pairs with the surest false positives.
    """

    metrics: dict[str, Any]
    setup: dict[str, Any]
    curves: dict[RegionKind, Curves]
    presence_scores: NDArray[np.float64]
    presence_logits: NDArray[np.float64]
    presence_labels: NDArray[np.bool_]
    misses: list[Mistake]
    false_positives: list[Mistake]

    @property
    def masks(self) -> dict[str, float]:
        return dict(self.metrics["masks"])

    @property
    def boxes(self) -> dict[str, float]:
        return dict(self.metrics["boxes"])

    @property
    def presence(self) -> dict[str, float]:
        return dict(self.metrics["presence"])


def evaluate(
    segmenter: Segmenter,
    dataset: ConceptDataset,
    prompts: PromptKind = "text",
    *,
    threshold: float = 0.5,
    presence: PresenceMode | None = None,
    limit: int | None = None,
    absent: str | Sequence[str] = (),
    worst: int = WORST,
    seed: int = 0,
    least_score: float = LEAST_SCORE,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Ask every phrase of every image, and compare with what is annotated.

    Args:
        segmenter: any loaded model.
        dataset: a split, from `open_dataset`.
        prompts: "text" asks by phrase, "boxes" by one example box per phrase (of the image itself where the
            phrase is present, of another image where it is absent), "both" by phrase and box together.
        threshold: scores that count, as in use. Average precision looks at all scores above 0.001.
        presence: how presence enters the scores; None: what the model's config says.
        limit: take the first so many images only.
        absent: phrases to ask of every image that does not show them, beside those the data names or
            samples. The caller vouches for their absence.
        worst: how many pairs to keep for pictures of misses, and of false positives.
        seed: decides which object is the example.
        least_score: lower scores are not looked at. Average precision needs them; without it, at `threshold`,
            an evaluation takes a fraction of the time.
        progress: called with the number of images that are done and the number wanted.

    Raises:
        OptionError: an option has an impossible value.
        DataError: the split is empty, or an image has another size than its annotations say.
        ImageError: an image cannot be read.
    """
    (threshold,) = check_thresholds(threshold, 1)
    (least_score,) = check_thresholds(least_score, 1)
    if limit is not None and limit < 1:
        raise OptionError(f"limit is {limit}; evaluate at least one image")
    if worst < 0:
        raise OptionError(f"worst is {worst}; give a number of pictures, 0 for none")
    extra = check_phrases(absent) if absent else []
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if not count:
        raise DataError(f"{dataset.name}: the split {dataset.split} has no image to evaluate")
    asker = Asker(
        segmenter,
        dataset,
        prompts,
        count=count,
        threshold=threshold,
        presence=presence,
        absent=extra,
        seed=seed,
        least_score=least_score,
    )
    kinds = REGION_KINDS if dataset.has_masks else ("boxes",)
    tally, mistakes = Tally(kinds, threshold), WorstMistakes(worst, threshold)
    for index in range(count):
        image = dataset[index]
        for answer in asker.answers(image):
            pair = as_pair(answer, with_masks=dataset.has_masks)
            matches = tally.add(answer.phrase, pair, answer.result.presence, answer.result.presence_logit)
            if matches is not None and worst:
                mistakes.add(image.path, answer.phrase, pair, matches)
        if progress is not None:
            progress(index + 1, count)
    metrics = tally.metrics()
    metrics["counts"] = {"images": count, **metrics["counts"], "skipped_pairs": asker.skipped}
    scores, logits, labels = tally.presence()
    return EvaluationResult(
        metrics=metrics,
        setup={
            "model": str(segmenter.config.provenance.get("name", "model")),
            "fingerprint": segmenter.fingerprint,
            "resolution": segmenter.resolution,
            "dtype": str(segmenter.dtype).removeprefix("torch."),
            "dataset": dataset.name,
            "split": dataset.split,
            "prompts": prompts,
            "threshold": threshold,
            "presence": presence or segmenter.config.presence_mode,
            "absent": extra,
            "seed": seed,
        },
        curves=tally.curves(),
        presence_scores=scores,
        presence_logits=logits,
        presence_labels=labels,
        misses=mistakes.misses,
        false_positives=mistakes.false_positives,
    )


def as_pair(answer: Answer, with_masks: bool) -> ConceptPair:
    """An answer as the metrics take it; masks as run lengths."""
    result, (height, width) = answer.result, answer.result.image_size
    boxes = [it.box_xyxy for it in answer.objects]
    return ConceptPair(
        scores=result.scores,
        predicted_masks=result.compact_masks.rles() if with_masks else None,
        target_masks=[_target_mask(it, height, width) for it in answer.objects] if with_masks else None,
        predicted_boxes=result.boxes,
        target_boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        ignored=np.array([it.crowd for it in answer.objects], dtype=bool),
        exhaustive=answer.exhaustive,
    )


def _target_mask(it: ConceptObject, height: int, width: int) -> Rle:
    mask = it.rle(height, width)
    if mask is None:  # a crowd without a mask; every other object of data with masks has one
        x0, y0, x1, y1 = it.box_xyxy
        box_xywh = np.array([[x0, y0, x1 - x0, y1 - y0]], dtype=np.float64)
        mask = coco_mask.frPyObjects(box_xywh, height, width)[0]
    return mask
