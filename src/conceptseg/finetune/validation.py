"""Looks at held-out images while a model is fine-tuned: asked as in use, measured as `evaluate` does."""

from __future__ import annotations

import dataclasses
from typing import Any

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.evaluation.evaluate import EvaluationResult, evaluate
from conceptseg.models.config import ModelConfig
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.segmenter import Segmenter
from conceptseg.train.task import Task
from conceptseg.train.validation import Validation


class DatasetValidation:
    """cgF1 of masks decides, or, where the data has boxes only, average precision of boxes."""

    def __init__(
        self, dataset: ConceptDataset, tokenizer: Tokenizer, config: ModelConfig, precision: str
    ) -> None:
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.config = config
        self.dtype = "bfloat16" if precision == "bf16" else "float32"

    def __call__(self, task: Task, step: int) -> Validation:
        segmenter = Segmenter(task.detector, self.tokenizer, self.config, dtype=self.dtype)
        return validation_of(evaluate(segmenter, self.dataset, worst=0))


def validation_of(result: EvaluationResult) -> Validation:
    """The figures of an evaluation that a run logs."""
    kinds = [kind for kind in ("masks", "boxes") if not _is_nan(result.metrics[kind]["map50"])]
    names = ("cgf1", "map", "map50", "precision", "recall")
    values = {f"{kind}/{name}": float(result.metrics[kind][name]) for kind in kinds for name in names}
    values |= {f"presence/{name}": float(value) for name, value in result.presence.items()}
    decides = "masks/cgf1" if "masks" in kinds else "boxes/map50"
    if decides not in values:  # no object at all is held out: what is left is not to fire
        decides = "presence/ece"
        return Validation(values, decides)
    return Validation(values, decides, larger_is_better=True)


def at_resolution(config: ModelConfig, resolution: int) -> ModelConfig:
    """The same model, reading squares of another side."""
    preprocessing = dataclasses.replace(config.preprocessing, resolution=resolution)
    return dataclasses.replace(config, preprocessing=preprocessing)


def _is_nan(value: Any) -> bool:
    return bool(value != value)
