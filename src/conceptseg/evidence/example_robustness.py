"""G11: what an example finds after the picture that it is shown on was changed; the searched picture stays.

Half of the prompts are of a concept that the picture shows, with the example on a copy of that picture; half
of a concept that it surely does not show, with the example on another one. The example is shown unchanged,
nearer and farther (the whole view), from another side (a perspective warp), 40% covered, and alone on another
background. "and a negative box" adds an object of another concept that is not meant, of another picture where
this one shows but one concept. Control: the example of another concept in its place, which should find
nothing that is wanted.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from conceptseg.data.scenes import Scene
from conceptseg.evaluation.cgf1 import IMAGE_EPS, INSTANCE_EPS, ConceptEvaluator, ConceptPair
from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.exemplar import Exemplar
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject
from conceptseg.exemplars.perturb import Box, Pixels, on_another_background, partly_covered, zoom
from conceptseg.result import Result
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Array, Bootstrap, Statistic, numbers
from conceptseg.study.table import Table

THRESHOLD = 0.5
UNCHANGED, SHUFFLED, NEGATIVE = "unchanged", "another concept's example", "and a negative box"
CHANGES = ("half the size", "twice the size", "perspective", "covered", "other background", NEGATIVE)
VIEWS = (UNCHANGED, *CHANGES, SHUFFLED)
TILT = 0.25  # of a side: how far a corner moves in the perspective warp
MARGIN = 0.1  # of the unchanged cgF1: what loses less is called robust
COUNTS = ("predicted", "right at 0.5", "right")  # "right": mean over the thresholds of IoU


class ExampleRobustness(Measurement):
    claim = "G11"
    changed = "the picture that the example is shown on, or the boxes that are given with it"
    together = 2

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        rows = []
        for number in numbers:
            scene, other = pictures.scene(number), pictures.another(number)
            rng = np.random.default_rng([options.seed, 61, number])
            cases = [(scene, choose_object(shown(scene), rng))]
            elsewhere = pictures.elsewhere(number)
            if elsewhere is not None:
                beside, concept = elsewhere
                members = tuple(one for one in shown(beside).objects if one.concept == concept)
                cases.append((beside, choose_object(ShownImage(beside.image, members), rng)))
            encoded = segmenter.encode(scene.image)
            for shown_on, it in cases:
                if it is None:
                    continue
                wanted = scene.families[it.concept] if shown_on is scene else []
                masks = np.zeros((len(wanted), *scene.image.shape[:2]), bool)
                for place, member in enumerate(wanted):
                    masks[place] = scene.objects[member].mask
                row: Row = {"scene": number, "present": bool(wanted), "targets": len(wanted)}
                kinds = example_kinds(segmenter, shown_on, it, other, rng)
                for name in VIEWS:
                    counts: tuple[float | None, ...] = (None,) * len(COUNTS)
                    if name in kinds:
                        found = segmenter.segment(encoded, exemplar=kinds[name], threshold=THRESHOLD)
                        counts = count(found, masks)
                    row |= {f"{name}: {what}": value for what, value in zip(COUNTS, counts, strict=True)}
                rows.append(row)
        return rows

    def examples(self, table: Table) -> int:
        return min(len(table.where(present=True)), len(table.where(present=False)))

    def lines(self, table: Table) -> list[Line]:
        draws = Bootstrap(table.column("scene"))
        lines = []
        for figure, make in (("cgF1", cgf1_of), ("F1 at IoU 0.5", f1_of)):
            for name in VIEWS:
                known = np.isfinite(numbers(table.column(f"{name}: predicted")))
                value = draws.of(make(table, name, known), known)
                lines.append(Line(f"{name}: {figure}", value, ".3f", name in (UNCHANGED, SHUFFLED), figure))
        for figure, make in (("cgF1", cgf1_of), ("F1 at IoU 0.5", f1_of)):
            for name in VIEWS[1:]:
                known = np.isfinite(numbers(table.column(f"{name}: predicted")))
                after, before = make(table, name, known), make(table, UNCHANGED, known)
                change = draws.of(lambda w, a=after, b=before: a(w) - b(w), known)  # type: ignore[misc]
                lines.append(Line(f"{name}: change of {figure}", change, "+.3f", name == SHUFFLED))
                if figure == "cgF1" and name != SHUFFLED:
                    kept = draws.of(lambda w, a=after, b=before: a(w) / b(w), known)  # type: ignore[misc]
                    lines.append(Line(f"{name}: share of cgF1 kept", kept, ".0%"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        kept = {name: lines[f"{name}: share of cgF1 kept"].estimate for name in CHANGES}
        enough = [name for name, it in kept.items() if it.examples >= self.least] or [
            name for name, it in kept.items() if it.examples
        ]
        effect = tuple(f"{name}: change of cgF1" for name in enough)
        few = [name for name in CHANGES if name not in enough]
        beside = f" (too few to tell: {', '.join(few)})" if few else ""
        robust = [name for name in enough if kept[name].above(1 - MARGIN)]
        if len(robust) == len(enough):
            return Verdict(
                "confirmed", f"every change keeps more than {1 - MARGIN:.0%} of cgF1{beside}", effect
            )
        if not robust:
            return Verdict("refuted", f"no change surely keeps {1 - MARGIN:.0%} of cgF1{beside}", effect)
        some = ", ".join(robust)
        why = f"on the change: surely at most {MARGIN:.0%} lost with {some}{beside}"
        return Verdict("depends", why, effect)


def example_kinds(
    segmenter: Segmenter, shown_on: Scene, it: ShownObject, other: Scene, rng: np.random.Generator
) -> dict[str, Exemplar]:
    """What is asked with each of `VIEWS`; what cannot be made is left out.

    Args:
        segmenter: makes the exemplars.
        shown_on: the picture of the example.
        it: the example.
        other: a picture for backgrounds and covers, and for the other concept where `shown_on` has but one.
        rng: decides on sides and on the object of the other concept.
    """

    def kind(pixels: Pixels, box_xyxy: Box, label: int = 1) -> Exemplar:
        return segmenter.exemplar(pixels, boxes=[list(box_xyxy)], labels=[label])

    views = example_views(shown_on.image, it, other.image, rng)
    kinds = {name: kind(*view) for name, view in views.items()}
    for scene in (shown_on, other):
        another = [one for one in shown(scene).objects if one.concept != it.concept]
        if another:
            unlike = another[int(rng.integers(len(another)))]
            kinds[SHUFFLED] = kind(scene.image, unlike.box_xyxy)
            if scene is shown_on:
                boxes = [list(it.box_xyxy), list(unlike.box_xyxy)]
                kinds[NEGATIVE] = segmenter.exemplar(scene.image, boxes=boxes, labels=[1, 0])
            else:
                kinds[NEGATIVE] = kinds[UNCHANGED] + kind(scene.image, unlike.box_xyxy, 0)
            break
    return kinds


def example_views(
    pixels: Pixels, it: ShownObject, other: Pixels, rng: np.random.Generator
) -> dict[str, tuple[Pixels, Box]]:
    """The example's picture as it is and changed, with its box; changes that cannot be made are left out."""
    views = {UNCHANGED: (pixels, it.box_xyxy)}
    for name, factor in (("half the size", 0.5), ("twice the size", 2.0)):
        nearer = zoom(pixels, it, factor)
        if nearer is not None:
            views[name] = nearer
    turned = seen_from_aside(pixels, it, rng)
    if turned is not None:
        views["perspective"] = turned
    views["covered"] = partly_covered(pixels, it, other, rng), it.box_xyxy
    alone = on_another_background(pixels, it, other)
    if alone is not None:
        views["other background"] = alone, it.box_xyxy
    return views


def seen_from_aside(pixels: Pixels, it: ShownObject, rng: np.random.Generator) -> tuple[Pixels, Box] | None:
    """The picture as from a viewpoint at its side: one side shrinks by `TILT` at both ends.

    Returns:
        The picture, and the box around what the warp makes of the object's mask; None without a mask.
    """
    if it.mask is None:
        return None
    height, width = pixels.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    tilted = corners.copy()
    side = int(rng.integers(4))
    first, second = side, (side + 1) % 4
    tilted[first] += TILT * (corners[second] - corners[first])
    tilted[second] += TILT * (corners[first] - corners[second])
    back = homography(tilted, corners)  # Pillow asks where each new pixel comes from
    size, how = (width, height), Image.Transform.PERSPECTIVE
    picture = Image.fromarray(pixels).transform(
        size, how, back, Image.Resampling.BILINEAR, fillcolor=(128,) * 3
    )
    mask = np.asarray(Image.fromarray(it.mask.astype(np.uint8) * 255).transform(size, how, back)) > 127
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 2 or len(columns) < 2:
        return None
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return np.asarray(picture), box


def homography(from_xy: Array, to_xy: Array) -> tuple[float, ...]:
    """The eight numbers of the perspective map that takes four points to four others.

    Args:
        from_xy: (4, 2).
        to_xy: (4, 2).

    Returns:
        a, ..., h with x' = (a x + b y + c) / (g x + h y + 1) and y' = (d x + e y + f) / (g x + h y + 1).
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(from_xy.tolist(), to_xy.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())


def count(found: Result, masks: np.ndarray) -> tuple[int, int, float]:
    """How many were predicted, how many of them right at IoU 0.5, and on average over the thresholds."""
    one = ConceptEvaluator("masks", THRESHOLD)
    one.add(ConceptPair(found.scores, predicted_masks=found.compact_masks.rles(), target_masks=masks))
    return one.predictions, int(one.true_positives[0]), float(one.true_positives.mean())


def cgf1_of(table: Table, name: str, known: np.ndarray) -> Statistic:
    """cgF1 of one view over weighted rows, as `evaluation.cgf1` has it: pmF1 x Matthews correlation."""
    present, targets, predicted, _, right = _columns(table, name, known)

    def statistic(weights: Array) -> Array:
        w = weights[:, known]
        pmf1 = 2 * (w @ right) / (w @ (present * (predicted + targets)) + INSTANCE_EPS)
        said = (predicted > 0).astype(float)
        tp, fp, fn, tn = (
            w @ it
            for it in (present * said, (1 - present) * said, present * (1 - said), (1 - present) * (1 - said))
        )
        spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        result: Array = pmf1 * (tp * tn - fp * fn) / (spread + IMAGE_EPS)
        return result

    return statistic


def f1_of(table: Table, name: str, known: np.ndarray) -> Statistic:
    """F1 at IoU 0.5 over all weighted rows, false alarms where nothing is wanted among them."""
    _, targets, predicted, right, _ = _columns(table, name, known)

    def statistic(weights: Array) -> Array:
        w = weights[:, known]
        result: Array = 2 * (w @ right) / np.maximum(w @ (predicted + targets), 1e-12)
        return result

    return statistic


def _columns(table: Table, name: str, known: np.ndarray) -> tuple[Array, ...]:
    names = ("present", "targets", *(f"{name}: {what}" for what in COUNTS))
    return tuple(numbers(table.column(it))[known] for it in names)
