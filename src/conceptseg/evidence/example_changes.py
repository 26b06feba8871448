"""G3 and G4: what moves the token of an example, and does it move the image feature under the box as much?

G3 changes the size of the EXAMPLE alone: cut out along its mask, on the background of another picture, at
half and at twice the size. Control: at its own size elsewhere on that background.

G4 changes what is around it: its surroundings (every pixel outside the box, none inside), the background (all
but its own pixels), and 40% of it covered. Control: as large a patch of the picture covered elsewhere.

Token and image feature live in different spaces, so each is compared with its own kind: cosine with itself
before the change, means over all examples taken off; and whether it is still nearest to itself among all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
from PIL import Image

from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.exemplars.agreement import unit
from conceptseg.exemplars.gap_pictures import ShownObject
from conceptseg.exemplars.perturb import COVERED, Box, Pixels, on_another_background, partly_covered
from conceptseg.exemplars.tokens import read_boxes
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Array, Bootstrap, numbers
from conceptseg.study.table import Table

SIDES = {"token": "exemplar token", "pooled": "image feature"}
LARGEST = 0.42  # of the picture: an example of G3 must still fit when it is twice as large
SMALLEST = 8.0  # pixels of its shorter side at half the size
View = tuple[Pixels, Box]


class ExampleChanges(Measurement):
    """Tokens and features of examples before and after changes.

    Attributes:
        changes: names of the views beside the first, "before".
        control: the one that tells what any change does; it may be missing for some examples.
    """

    changes: tuple[str, ...]
    control: str
    least_side: float  # pixels of an example's box

    @abstractmethod
    def views(
        self, pixels: Pixels, it: ShownObject, other: Pixels, rng: np.random.Generator
    ) -> Mapping[str, View]:
        """Pictures with the example's box in them: "before" and what changes there are; none: not usable."""

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        rows = []
        for number in numbers:
            rng = np.random.default_rng([options.seed, 53, number])
            image = shown(pictures.scene(number))
            it = choose_object(image, rng, self.least_side)
            views = {} if it is None else self.views(image.pixels, it, pictures.another(number).image, rng)
            if not views:
                continue
            row: Row = {"scene": number}
            for name in ("before", *self.changes):
                told = read_boxes(segmenter, views[name][0], [views[name][1]]) if name in views else None
                row[f"token {name}"] = None if told is None else told.tokens[0].tolist()
                row[f"pooled {name}"] = None if told is None else told.pooled[0].tolist()
            rows.append(row)
        return rows

    def finish(self, rows: list[Row]) -> list[Row]:
        """Cosines and ranks in place of the vectors."""
        if not rows:
            return []
        kept: list[Row] = [{"scene": row["scene"]} for row in rows]
        for side in SIDES:
            before = np.array([row[f"{side} before"] for row in rows], float)  # (n, D)
            for name in self.changes:
                there = [i for i, row in enumerate(rows) if row[f"{side} {name}"] is not None]
                after = np.array([rows[i][f"{side} {name}"] for i in there], float).reshape(
                    -1, before.shape[1]
                )
                cosine, first = against_itself(after, before, np.array(there, np.int64))
                for row in kept:
                    row[f"{side} {name}: cosine"] = row[f"{side} {name}: own first"] = None
                for i, value, own in zip(there, cosine, first, strict=True):
                    kept[i][f"{side} {name}: cosine"], kept[i][f"{side} {name}: own first"] = (
                        float(value),
                        float(own),
                    )
        return kept

    def lines(self, table: Table) -> list[Line]:
        draws = Bootstrap(table.column("scene"))
        lines = []
        for figure, style in (("cosine", ".3f"), ("own first", ".1%")):
            for name in self.changes:
                for side, words in SIDES.items():
                    value = draws.mean(table.column(f"{side} {name}: {figure}"))
                    group = f"{figure}, before and after"
                    lines.append(
                        Line(f"{words}, {name}: {figure}", value, style, name == self.control, group)
                    )
        for name in self.changes:
            if name == self.control:
                continue
            falls = {side: self._falls(table, side, name) for side in SIDES}
            for side, words in SIDES.items():
                lines.append(
                    Line(f"{words}, {name}: cosine lost beyond the control", draws.mean(falls[side]), ".3f")
                )
            lines.append(
                Line(
                    f"{name}: lost by the token beyond what the feature loses",
                    draws.mean(self.excess(table, name)),
                    ".3f",
                )
            )
        return lines

    def excess(self, table: Table, name: str) -> Array:
        """Of each example, what its token loses more than its feature, beyond what the control costs both."""
        result: Array = self._falls(table, "token", name) - self._falls(table, "pooled", name)
        return result

    def _falls(self, table: Table, side: str, name: str) -> Array:
        control = numbers(table.column(f"{side} {self.control}: cosine"))
        return control - numbers(table.column(f"{side} {name}: cosine"))


class ExampleScale(ExampleChanges):
    claim = "G3"
    changed = "the size of the example alone, on another background"
    changes = ("0.5x", "2x", "elsewhere")
    control = "elsewhere"
    least_side = 2 * SMALLEST

    def views(
        self, pixels: Pixels, it: ShownObject, other: Pixels, rng: np.random.Generator
    ) -> Mapping[str, View]:
        return scaled_views(pixels, it, other)

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        scales = self.changes[:2]
        own = [lines[f"exemplar token, {name}: cosine lost beyond the control"].estimate for name in scales]
        more = [lines[f"{name}: lost by the token beyond what the feature loses"].estimate for name in scales]
        effect = tuple(f"{name}: lost by the token beyond what the feature loses" for name in scales)
        if all(it.above() for it in (*own, *more)):
            return Verdict(
                "confirmed",
                "a token loses more than a mere move costs, and more than the feature does",
                effect,
            )
        if not any(it.above() for it in own):
            return Verdict("refuted", "size moves a token no more than another place does", effect)
        if all(it.below() for it in more):
            return Verdict("refuted", "the image feature under the box loses more than the token", effect)
        return Verdict(
            "depends",
            "on the direction: token and feature do not differ alike at half and twice the size",
            effect,
        )


class ExampleContext(ExampleChanges):
    claim = "G4"
    changed = "what surrounds the example, or hides it"
    changes = ("other surroundings", "other background", "covered", "covered elsewhere")
    control = "covered elsewhere"
    least_side = SMALLEST

    def views(
        self, pixels: Pixels, it: ShownObject, other: Pixels, rng: np.random.Generator
    ) -> Mapping[str, View]:
        views = {
            "before": pixels,
            "other surroundings": other_surroundings(pixels, it.box_xyxy, other),
            "other background": on_another_background(pixels, it, other),
            "covered": partly_covered(pixels, it, other, rng),
            "covered elsewhere": covered_elsewhere(pixels, it.box_xyxy, other),
        }
        return {name: (picture, it.box_xyxy) for name, picture in views.items() if picture is not None}

    def excess(self, table: Table, name: str) -> Array:
        """As it is, for every example: where the box leaves no room, nothing was covered elsewhere."""
        token, pooled = (numbers(table.column(f"{side} {name}: cosine")) for side in SIDES)
        return pooled - token

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        name = "other surroundings"
        more = lines[f"{name}: lost by the token beyond what the feature loses"].estimate
        effect = (f"exemplar token, {name}: cosine", f"image feature, {name}: cosine")
        if more.below():
            return Verdict(
                "confirmed",
                "surroundings move the token less than the image feature: it knows less of them",
                effect,
            )
        if more.above():
            return Verdict(
                "refuted", "surroundings move the token more than the image feature: it sees them", effect
            )
        return Verdict("depends", "surroundings move token and image feature alike", effect)


def against_itself(after: Array, before: Array, own: np.ndarray) -> tuple[Array, Array]:
    """Cosine of each changed vector with its own unchanged one, and whether that is the nearest of all.

    Args:
        after: (k, D).
        before: (n, D), whose mean is taken off both.
        own: (k,), which of the n each one was.

    Returns:
        (k,) cosines, and (k,) 1 or 0.
    """
    mean = before.mean(0)
    cosine = unit(after - mean) @ unit(before - mean).T  # (k, n)
    itself = cosine[np.arange(len(own)), own]
    return itself, (cosine <= itself[:, None]).all(1).astype(float)


def scaled_views(pixels: Pixels, it: ShownObject, other: Pixels) -> dict[str, View]:
    """The object on another picture at its size, half, twice, and elsewhere; none where it is too small.

    An object too large to be doubled is first made smaller, from its own pixels.
    """
    if it.mask is None:
        return {}
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = it.box_xyxy
    start = min(1.0, LARGEST * width / (x1 - x0), LARGEST * height / (y1 - y0))
    if min(x1 - x0, y1 - y0) * start / 2 < SMALLEST:
        return {}
    half_w, half_h = start * (x1 - x0), start * (y1 - y0)  # of the largest view
    across = float(np.clip((x0 + x1) / 2, half_w, width - half_w))
    down = float(np.clip((y0 + y1) / 2, half_h, height - half_h))
    views = {
        name: pasted(pixels, it, other, (across, down), start * factor)
        for name, factor in (("before", 1.0), ("0.5x", 0.5), ("2x", 2.0))
    }
    far_x, far_y = width - across, height - down
    if abs(far_x - across) + abs(far_y - down) < 0.15 * width:  # it lies in the middle
        far_x = across + 0.2 * width if across + 0.2 * width + half_w / 2 <= width else across - 0.2 * width
    views["elsewhere"] = pasted(pixels, it, other, (far_x, far_y), start)
    return views


def pasted(pixels: Pixels, it: ShownObject, onto: Pixels, centre: tuple[float, float], factor: float) -> View:
    """An object, cut out along its mask and resized, on another picture.

    Args:
        pixels: the picture that shows it.
        it: the object; it has a mask.
        onto: a picture of the same size.
        centre: where its box is centred.
        factor: of its size.
    """
    assert it.mask is not None
    x0, y0 = (int(np.floor(side)) for side in it.box_xyxy[:2])
    x1, y1 = (int(np.ceil(side)) for side in it.box_xyxy[2:])
    w, h = max(1, round(factor * (x1 - x0))), max(1, round(factor * (y1 - y0)))
    part = Image.fromarray(pixels[y0:y1, x0:x1]).resize((w, h), Image.Resampling.BILINEAR)
    shape = Image.fromarray(it.mask[y0:y1, x0:x1].astype(np.uint8) * 255).resize(
        (w, h), Image.Resampling.BILINEAR
    )
    height, width = onto.shape[:2]
    left = int(np.clip(round(centre[0] - w / 2), 0, width - w))
    top = int(np.clip(round(centre[1] - h / 2), 0, height - h))
    picture = onto.copy()
    window = picture[top : top + h, left : left + w]
    window[:] = np.where(np.asarray(shape)[..., None] > 127, np.asarray(part), window)
    return picture, (float(left), float(top), float(left + w), float(top + h))


def other_surroundings(pixels: Pixels, box_xyxy: Box, other: Pixels) -> Pixels:
    """Another picture, with this one's pixels where the box is."""
    x0, y0, x1, y1 = _whole(box_xyxy)
    picture = other.copy()
    picture[y0:y1, x0:x1] = pixels[y0:y1, x0:x1]
    return picture


def covered_elsewhere(pixels: Pixels, box_xyxy: Box, other: Pixels) -> Pixels | None:
    """A patch as large as the one that covers the object, in a free corner; None where there is no room."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = _whole(box_xyxy)
    w, h = x1 - x0, max(1, round(COVERED * (y1 - y0)))
    for left, top in ((0, 0), (width - w, 0), (0, height - h), (width - w, height - h)):
        apart = left + w <= x0 or left >= x1 or top + h <= y0 or top >= y1
        if apart:
            picture = pixels.copy()
            picture[top : top + h, left : left + w] = other[top : top + h, left : left + w]
            return picture
    return None


def _whole(box_xyxy: Box) -> tuple[int, int, int, int]:
    x0, y0 = (int(np.floor(side)) for side in box_xyxy[:2])
    x1, y1 = (int(np.ceil(side)) for side in box_xyxy[2:])
    return x0, y0, x1, y1
