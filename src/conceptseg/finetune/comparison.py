"""The end of a run: presence fitted anew, a threshold recommended, and both models measured side by side."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.scenes import make_scenes
from conceptseg.errors import DataError
from conceptseg.evaluation.calibration import fit_to_labels
from conceptseg.evaluation.evaluate import EvaluationResult, evaluate
from conceptseg.evaluation.report import best_threshold, main_kind
from conceptseg.models.config import ModelConfig, PresenceCalibration
from conceptseg.segmenter import Segmenter

SCENE_SEED = 20_000  # far from those of a training run


@dataclass(frozen=True)
class Comparison:
    """The model before and after, on the held-out images and on scenes; None where there are no scenes."""

    before: EvaluationResult
    after: EvaluationResult
    scenes_before: EvaluationResult | None
    scenes_after: EvaluationResult | None
    threshold: float | None  # the score from which detections count, best on the held-out images


def calibrated(segmenter: Segmenter, judge: ConceptDataset) -> tuple[Segmenter, EvaluationResult]:
    """Fit presence on held-out pairs, and keep the fit where it does no harm.

    Args:
        segmenter: with presence as it was trained, which its config does not calibrate.
        judge: held-out images, with phrases that are there and absent.

    Returns:
        The segmenter with the better config, and what it reaches.
    """
    plain = evaluate(segmenter, judge, worst=0)
    try:
        fitted = fit_to_labels(plain.presence_logits.tolist(), plain.presence_labels.tolist())
    except DataError:  # too few pairs, or all of one kind: nothing can be fitted
        return segmenter, plain
    config = dataclasses.replace(segmenter.config, presence_calibration=fitted, presence_mode="calibrated")
    better = with_config(segmenter, config)
    result = evaluate(better, judge, worst=0)
    kind = main_kind(plain)
    if result.metrics[kind]["cgf1"] >= plain.metrics[kind]["cgf1"]:
        return better, result
    return segmenter, plain


def compare(
    before: Segmenter,
    after: Segmenter,
    after_result: EvaluationResult,
    judge: ConceptDataset,
    scenes: int,
) -> Comparison:
    """Measure the model before as the one after was, and both on scenes.

    Args:
        before: as it was loaded.
        after: as it is saved.
        after_result: of the held-out images.
        judge: these.
        scenes: how many held-out scenes to draw; 0 for none.
    """
    best = best_threshold(after_result.curves[main_kind(after_result)])
    on_scenes: list[EvaluationResult | None] = [None, None]
    if scenes:
        with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
            make_scenes(Path(folder), scenes, SCENE_SEED, split="held_out")
            dataset = open_dataset(folder, "held_out")
            on_scenes = [evaluate(model, dataset, worst=0) for model in (before, after)]
    return Comparison(
        before=evaluate(before, judge, worst=0),
        after=after_result,
        scenes_before=on_scenes[0],
        scenes_after=on_scenes[1],
        threshold=None if best is None else round(best[0], 2),
    )


def uncalibrated(config: ModelConfig) -> ModelConfig:
    """Without a calibration: one that was fitted before presence was trained is no longer right."""
    return dataclasses.replace(config, presence_calibration=PresenceCalibration(), presence_mode="multiply")


def with_config(segmenter: Segmenter, config: ModelConfig) -> Segmenter:
    """The same network under another config."""
    return Segmenter(segmenter.detector, segmenter.tokenizer, config, dtype=segmenter.dtype)
