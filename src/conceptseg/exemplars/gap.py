"""Measure the gap between the exemplar encoder and the vision encoder of a model.

    gap = measure_gap(cs.load("nano"), open_dataset("data/nuclei"))
    gap.figures["agreement"]["centred"]["recall_1"]
    write_gap(gap, "gap")  # gap.json, gap.md, gap.png

A token may well be of use to the detector without lying near the image features; the figures say how the two
relate, and which changes of the picture move a token. What a gap costs, an evaluation says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.errors import DataError, OptionError
from conceptseg.exemplars.agreement import agreement, channel_statistics, stays_put
from conceptseg.exemplars.conflict import gradient_conflict
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject, choose_examples, images_of_dataset
from conceptseg.exemplars.perturb import another, on_another_background, partly_covered, zoom
from conceptseg.exemplars.tokens import read_boxes, read_examples
from conceptseg.segmenter import Segmenter

IMAGES, PER_CONCEPT, CHANGED, GRADIENTS = 40, 3, 48, 12
SCALES = (0.5, 2.0)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Gap:
    """What was measured of one model; `write_gap` writes it down.

    Attributes:
        figures: `statistics`, `agreement`, `closing` (agreement of the prompt's closing token), `scale`,
            `context`, `conflict`; NaN where nothing can be said.
        setup: which model, which data, how many examples.
    """

    figures: dict[str, Any]
    setup: dict[str, Any]


def measure_gap(
    segmenter: Segmenter,
    data: ConceptDataset | Iterable[ShownImage],
    *,
    images: int = IMAGES,
    per_concept: int = PER_CONCEPT,
    changed: int = CHANGED,
    gradients: int = GRADIENTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Gap:
    """Compare what the two encoders say of the same boxes.

    Args:
        segmenter: any loaded model.
        data: a split from `open_dataset`, or pictures with their objects.
        images: look at the first so many that show anything.
        per_concept: examples of each concept in each image.
        changed: examples that are shown again, changed; each costs five passes of the vision encoder.
        gradients: examples whose gradients are compared; 0 leaves that out.
        seed: decides which objects are examples, and how they are covered.
        progress: called with the number of pictures that are done and the number wanted.

    Raises:
        OptionError: a number is too small.
        DataError: the data shows fewer than two objects.
    """
    for name, value, least in (
        ("images", images, 1),
        ("per_concept", per_concept, 1),
        ("changed", changed, 0),
    ):
        if value < least:
            raise OptionError(f"{name} is {value}; give {least} or more")
    pictures = (
        list(images_of_dataset(data, images)) if isinstance(data, ConceptDataset) else list(data)[:images]
    )
    examples = choose_examples(pictures, per_concept, seed)
    if len(examples) < 2:
        raise DataError(
            "fewer than two objects to compare; the gap needs labelled objects of 4 pixels or more"
        )
    few = sorted(np.random.default_rng([seed, 1]).permutation(len(examples))[:changed].tolist())
    tasks = _Counter(len(few) + min(gradients, len(examples)) + 1, progress)

    said = read_examples(segmenter, pictures, examples)
    tasks.done()
    concepts = [it.concept for _, it in examples]
    numbers = np.array([number for number, _ in examples])
    moved = _changed_tokens(segmenter, pictures, examples, few, seed, tasks)
    return Gap(
        figures={
            "statistics": channel_statistics(said.tokens, said.cells.reshape(-1, said.cells.shape[-1])),
            "agreement": agreement(said.tokens, said.pooled, concepts, numbers),
            "closing": agreement(said.closing, said.pooled, concepts, numbers),
            "scale": {name: stays_put(*moved[name].of(said.tokens)) for name in _scale_names()},
            "context": {name: stays_put(*moved[name].of(said.tokens)) for name in ("background", "covered")},
            "conflict": _conflict(segmenter, pictures, examples, gradients, seed, tasks),
        },
        setup={
            "model": str(segmenter.config.provenance.get("name", "model")),
            "fingerprint": segmenter.fingerprint,
            "encoder": segmenter.config.architecture.exemplar.kind,
            "resolution": segmenter.resolution,
            "data": f"{data.name}/{data.split}" if isinstance(data, ConceptDataset) else "pictures",
            "images": len(pictures),
            "examples": len(examples),
            "concepts": len(set(concepts)),
            "seed": seed,
        },
    )


def _scale_names() -> list[str]:
    return [f"{factor:g}x" for factor in SCALES]


@dataclass
class _Moved:
    """Tokens of changed examples, and which examples they were."""

    tokens: list[NDArray[np.float64]]
    index: list[int]

    def of(self, kept: NDArray[np.float64]) -> tuple[Any, Any, Any]:
        width = kept.shape[1]
        return np.array(self.tokens).reshape(-1, width), kept, np.array(self.index, dtype=np.int64)


def _changed_tokens(
    segmenter: Segmenter,
    pictures: Sequence[ShownImage],
    examples: Sequence[tuple[int, ShownObject]],
    few: Sequence[int],
    seed: int,
    tasks: _Counter,
) -> dict[str, _Moved]:
    moved = {name: _Moved([], []) for name in (*_scale_names(), "background", "covered")}

    def look(name: str, pixels: NDArray[np.uint8], box: tuple[float, float, float, float], i: int) -> None:
        moved[name].tokens.append(read_boxes(segmenter, pixels, [box]).tokens[0])
        moved[name].index.append(i)

    for i in few:
        number, it = examples[i]
        picture = pictures[number].pixels
        other = another([it.pixels for it in pictures], number)
        for name, factor in zip(_scale_names(), SCALES, strict=True):
            nearer = zoom(picture, it, factor)
            if nearer is not None:
                look(name, *nearer, i)
        elsewhere = on_another_background(picture, it, other)
        if elsewhere is not None:
            look("background", elsewhere, it.box_xyxy, i)
        rng = np.random.default_rng([seed, 2, i])
        look("covered", partly_covered(picture, it, other, rng), it.box_xyxy, i)
        tasks.done()
    return moved


def _conflict(
    segmenter: Segmenter,
    pictures: Sequence[ShownImage],
    examples: Sequence[tuple[int, ShownObject]],
    count: int,
    seed: int,
    tasks: _Counter,
) -> dict[str, float]:
    rows: list[dict[str, float]] = []
    for i in sorted(np.random.default_rng([seed, 3]).permutation(len(examples))[:count].tolist()):
        rows += gradient_conflict(segmenter, pictures, [examples[i]])
        tasks.done()
    if not rows:
        return {"cosine": float("nan"), "examples": 0.0}
    cosines = np.array([row["cosine"] for row in rows])
    ratios = np.array([row["through_exemplar"] / max(row["through_detector"], 1e-12) for row in rows])
    return {
        "cosine": float(np.nanmean(cosines)) if np.isfinite(cosines).any() else float("nan"),
        "against_each_other": float((cosines < 0).mean()),
        "length_ratio": float(np.median(ratios)),  # through the exemplar encoder over through the detector
        "examples": float(len(rows)),
    }


class _Counter:
    """How much is done, for a progress bar."""

    def __init__(self, wanted: int, progress: Progress | None) -> None:
        self._done, self._wanted, self._progress = 0, wanted, progress

    def done(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._wanted)
