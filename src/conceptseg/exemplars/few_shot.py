"""How well a model finds what example boxes mean, on scenes: the figures that a study compares.

Half of the prompts are of families that the searched scene shows, with examples on the scene itself; half of
families that only the other scene of its theme shows, with the examples there. Robustness asks the first kind
once more after the example or the scene has been changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.data.scene_questions import could_be_confused
from conceptseg.data.scenes import Scene
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.exemplars.gap_pictures import ShownObject
from conceptseg.exemplars.perturb import another, on_another_background, partly_covered
from conceptseg.result import Result
from conceptseg.segmenter import EncodedImage, Segmenter

# name -> positive and negative examples
SETTINGS = {"one box": (1, 0), "three boxes": (3, 0), "one positive, one negative": (1, 1)}
CHANGES = ("unchanged", "smaller", "larger", "rotated", "covered", "background")
SCALES = {"smaller": 0.75, "larger": 1.5}  # of the resolution that scenes are read at
FIGURES = ("cgf1", "il_mcc", "pmf1", "f1_50")
THRESHOLD = 0.5


def score_settings(segmenter: Segmenter, scenes: Sequence[Scene]) -> dict[str, dict[str, Any]]:
    """cgF1 and its parts for each of `SETTINGS`, and its `counts` of every scene.

    Scenes 2k and 2k + 1 share a theme.
    """
    by_scene: dict[str, list[ConceptEvaluator]] = {name: [] for name in SETTINGS}
    encoded = _Encoded(segmenter, scenes)
    for number, scene in enumerate(scenes):
        for name, (positives, negatives) in SETTINGS.items():
            count = ConceptEvaluator("masks", THRESHOLD)
            by_scene[name].append(count)
            rng = np.random.default_rng([21, number, positives, negatives])
            for family in _families(scene, positives, negatives):
                boxes, labels = _examples(scene, family, positives, negatives, rng)
                found = segmenter.segment(encoded[number], boxes=boxes, labels=labels, threshold=THRESHOLD)
                count.add(_pair(found, scene, scene.families[family]))
            beside = scenes[number ^ 1]
            for family in _families(beside, positives, negatives):
                if family in scene.families or could_be_confused(family, scene):
                    continue
                boxes, labels = _examples(beside, family, positives, negatives, rng)
                kind = segmenter.exemplar(encoded[number ^ 1], boxes=boxes, labels=labels)
                found = segmenter.segment(encoded[number], exemplar=kind, threshold=THRESHOLD)
                count.add(_pair(found, scene, []))
    figures: dict[str, dict[str, Any]] = {}
    for name, counts in by_scene.items():
        whole = ConceptEvaluator("masks", THRESHOLD)
        for count in counts:
            whole.merge(count)
        figures[name] = {**_figures(whole), "counts": [count.counts().tolist() for count in counts]}
    return figures


def score_robustness(segmenter: Segmenter, scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """One example box per family of each scene, unchanged and after each of `CHANGES`.

    "covered" and "background" change the example: it is shown on a changed copy of the scene, and carried
    back.
    """
    counts = {name: ConceptEvaluator("masks", THRESHOLD) for name in CHANGES}
    others = {name: _of_scale(segmenter, factor) for name, factor in SCALES.items()}
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng([22, number])
        encoded = segmenter.encode(scene.image)
        turned = _turned(scene)
        seen = {name: other.encode(scene.image) for name, other in others.items()}
        seen_turned = segmenter.encode(turned.image)
        cover = another([it.image for it in scenes], number)
        for family in _families(scene, 1, 0):
            members = scene.families[family]
            chosen = int(rng.choice(members))
            it = scene.objects[chosen]
            box = [list(it.box_xyxy)]
            counts["unchanged"].add(_pair(_ask(segmenter, encoded, box), scene, members))
            for name, other in others.items():
                counts[name].add(_pair(_ask(other, seen[name], box), scene, members))
            box_turned = [list(turned.objects[chosen].box_xyxy)]
            counts["rotated"].add(_pair(_ask(segmenter, seen_turned, box_turned), turned, members))
            shown = ShownObject(family, it.box_xyxy, it.mask)
            for name, picture in (
                ("covered", partly_covered(scene.image, shown, cover, rng)),
                ("background", on_another_background(scene.image, shown, cover)),
            ):
                assert picture is not None  # scenes have masks
                kind = segmenter.exemplar(picture, boxes=box)
                found = segmenter.segment(encoded, exemplar=kind, threshold=THRESHOLD)
                counts[name].add(_pair(found, scene, members))
    return {name: _figures(count) for name, count in counts.items()}


class _Encoded:
    """Scenes through the vision encoder, the last few kept."""

    def __init__(self, segmenter: Segmenter, scenes: Sequence[Scene]) -> None:
        self._segmenter, self._scenes = segmenter, scenes
        self._kept: dict[int, EncodedImage] = {}

    def __getitem__(self, number: int) -> EncodedImage:
        if number not in self._kept:
            self._kept = dict(list(self._kept.items())[-3:])
            self._kept[number] = self._segmenter.encode(self._scenes[number].image)
        return self._kept[number]


def _families(scene: Scene, positives: int, negatives: int) -> list[str]:
    """Families with enough members to ask for, and one more to find."""
    large = [name for name, members in scene.families.items() if len(members) > positives]
    return large if not negatives or len(scene.families) > 1 else []


def _examples(
    scene: Scene, family: str, positives: int, negatives: int, rng: np.random.Generator
) -> tuple[list[list[float]], list[int]]:
    others = [i for name, members in scene.families.items() if name != family for i in members]
    chosen = [*rng.permutation(scene.families[family])[:positives], *rng.permutation(others)[:negatives]]
    boxes = [list(scene.objects[int(i)].box_xyxy) for i in chosen]
    return boxes, [1] * positives + [0] * negatives


def _ask(segmenter: Segmenter, encoded: EncodedImage, boxes: list[list[float]]) -> Result:
    return segmenter.segment(encoded, boxes=boxes, threshold=THRESHOLD)


def _of_scale(segmenter: Segmenter, factor: float) -> Segmenter:
    """The same model at the nearest resolution that it can read."""
    stride = segmenter.config.architecture.vision.stride
    resolution = max(stride, round(segmenter.resolution * factor / stride) * stride)
    return Segmenter(
        segmenter.detector,
        segmenter.tokenizer,
        segmenter.config,
        dtype=segmenter.dtype,
        resolution=resolution,
    )


def _turned(scene: Scene) -> Scene:
    """A quarter turn to the left."""
    width = scene.image.shape[1]

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.rot90(array))

    objects = []
    for it in scene.objects:
        x0, y0, x1, y1 = it.box_xyxy
        objects.append(
            dataclasses.replace(it, mask=turned(it.mask), box_xyxy=(y0, width - x1, y1, width - x0))
        )
    return dataclasses.replace(scene, image=turned(scene.image), objects=objects)


def _pair(found: Result, scene: Scene, members: Sequence[int]) -> ConceptPair:
    masks = [scene.objects[i].mask for i in members]
    return ConceptPair(
        scores=found.scores,
        predicted_masks=found.compact_masks.rles(),
        target_masks=np.stack(masks) if masks else np.zeros((0, *scene.image.shape[:2]), bool),
    )


def _figures(count: ConceptEvaluator) -> dict[str, float]:
    metrics = count.compute().to_dict()
    return {name: float(metrics[name]) for name in FIGURES} | {"prompts": float(metrics["pairs"])}
