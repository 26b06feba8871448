"""CVAT annotates its tasks with conceptseg: the name of a label is the phrase that is looked for.

    pip install cvat-cli
    cvat-cli --server-host https://app.cvat.ai --auth USER task auto-annotate TASK \
        --function-file examples/cvat_function.py -p 'labels=str:coin,red circle'

For labels of the type "polygon" add --conv-mask-to-poly. Further parameters: -p model=str:sam3.pt,
-p threshold=float:0.4 (--conf-threshold goes before it), -p device=str:cuda.

Contract: https://docs.cvat.ai/docs/api_sdk/sdk/auto-annotation/ (a detection function: `spec` and `detect`).
"""

from __future__ import annotations

from collections.abc import Iterator

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import LabeledShapeRequest

import conceptseg as cs
from conceptseg.polygons import mask_polygons

TOLERANCE = 1.0  # pixels that polygons may lie off the outline


class ConceptFunction:
    """A detection function of CVAT."""

    def __init__(self, segmenter: cs.Segmenter, phrases: list[str], threshold: float) -> None:
        self._segmenter, self._phrases, self._threshold = segmenter, phrases, threshold
        self._spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(phrase, number, type="mask") for number, phrase in enumerate(phrases)]
        )

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        return self._spec

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[LabeledShapeRequest]:
        threshold = self._threshold if context.conf_threshold is None else context.conf_threshold
        results = self._segmenter.segment(image, text=self._phrases, threshold=threshold)
        return [
            shape
            for label, result in enumerate(results)
            for shape in _shapes(label, result, context.conv_mask_to_poly)
        ]


def _shapes(label: int, result: cs.Result, polygons: bool) -> Iterator[LabeledShapeRequest]:
    for number, one in enumerate(result):
        if not polygons:
            yield cvataa.mask(label, encode_mask(one.masks[0]))
            continue
        parts = mask_polygons(result.compact_masks, number, TOLERANCE)
        for part in parts:  # those of one object are a group
            yield cvataa.polygon(label, part.ravel().tolist(), group=number + 1 if len(parts) > 1 else 0)


def create(labels: str, model: str = "nano", threshold: float = 0.5, device: str = "auto") -> ConceptFunction:
    """What cvat-cli calls, with what it was given by -p."""
    phrases = list(dict.fromkeys(phrase.strip() for phrase in labels.split(",") if phrase.strip()))
    return ConceptFunction(cs.load(model, device=device), phrases, threshold)
