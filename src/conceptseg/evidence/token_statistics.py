"""G1: the statistics of exemplar tokens and of image tokens differ.

Of one example box: its token, the mean image feature under it, and, as the control, the image feature of the
same object in the mirrored picture. Two image features of one object differ too; the claim is about more.
"""

from __future__ import annotations

import numpy as np

from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.exemplars.agreement import RIDGE
from conceptseg.exemplars.tokens import read_boxes
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Array, Bootstrap, Statistic
from conceptseg.study.table import Table, pack, unpack

FOLDS = 5
TINY = 1e-12
PAIRS = {"token": ("pooled", "token"), "control": ("pooled", "mirrored")}


class TokenStatistics(Measurement):
    claim = "G1"
    changed = "nothing: tokens beside the image features under the same boxes"

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        rows = []
        for number in numbers:
            image = shown(pictures.scene(number))
            it = choose_object(image, np.random.default_rng([options.seed, 51, number]))
            if it is None:
                continue
            width = image.pixels.shape[1]
            x0, y0, x1, y1 = it.box_xyxy
            mirror = np.ascontiguousarray(image.pixels[:, ::-1])
            here = read_boxes(segmenter, image.pixels, [it.box_xyxy])
            there = read_boxes(segmenter, mirror, [(width - x1, y0, width - x0, y1)])
            vectors = {"token": here.tokens[0], "pooled": here.pooled[0], "mirrored": there.pooled[0]}
            rows.append({"scene": number, **{name: pack(vector) for name, vector in vectors.items()}})
        return rows

    def finish(self, rows: list[Row]) -> list[Row]:
        for name, (first, second) in PAIRS.items():
            one, other = (unpack([row[side] for row in rows]) for side in (first, second))
            for row, right in zip(rows, told_apart(one, other), strict=True):
                row[f"told apart, {name}"] = float(right)
        return rows

    def lines(self, table: Table) -> list[Line]:
        draws = Bootstrap(table.column("scene"))
        lines = []
        for name, (first, second) in PAIRS.items():
            image, other = unpack(table.column(first)), unpack(table.column(second))
            control = name == "control"
            what = "image feature and that of the mirrored picture" if control else "image feature and token"
            lines += [
                Line(
                    f"{what}: distance of channel means",
                    draws.of(mean_offset(image, other)),
                    ".2f",
                    control,
                    "distance of channel means, in standard deviations",
                ),
                Line(
                    f"{what}: log ratio of channel variances",
                    draws.of(variance_ratio(image, other)),
                    ".2f",
                    control,
                    "log ratio of channel variances",
                ),
                Line(
                    f"{what}: told apart by a linear rule",
                    draws.mean(table.column(f"told apart, {name}")),
                    ".1%",
                    control,
                ),
            ]
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        own, control = "image feature and token", "image feature and that of the mirrored picture"
        figures = ("distance of channel means", "log ratio of channel variances")
        effect = tuple(f"{own}: {figure}" for figure in figures)
        beyond = [
            figure
            for figure in figures
            if lines[f"{own}: {figure}"].estimate.above(lines[f"{control}: {figure}"].estimate.high)
        ]
        if len(beyond) == 2:
            return Verdict(
                "confirmed", "means and variances lie farther apart than two views of an object", effect
            )
        if beyond:
            return Verdict("depends", f"only in the {beyond[0]} beyond the control", effect)
        return Verdict("refuted", "no farther apart than two views of an object", effect)


def mean_offset(image: Array, other: Array) -> Statistic:
    """Distance of the channel means in standard deviations of `image`: root mean square over channels."""

    def statistic(weights: Array) -> Array:
        mean, variance = moments(image, weights)
        offset = (moments(other, weights)[0] - mean) / np.sqrt(variance + TINY)
        result: Array = np.sqrt((offset**2).mean(1))
        return result

    return statistic


def variance_ratio(image: Array, other: Array) -> Statistic:
    """Mean over channels of the absolute logarithm of the ratio of variances; 0 where all are equal."""

    def statistic(weights: Array) -> Array:
        ratio = (moments(other, weights)[1] + TINY) / (moments(image, weights)[1] + TINY)
        result: Array = np.abs(np.log(ratio)).mean(1)
        return result

    return statistic


def moments(x: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted means and variances of (n, D), each (draws, D)."""
    share = weights / weights.sum(1, keepdims=True)
    mean = share @ x
    return mean, np.maximum(share @ x**2 - mean**2, 0)


def told_apart(one: Array, other: Array) -> Array:
    """Of each example, how many of its two vectors a linear rule puts on the right side: 0, 0.5 or 1.

    The rule is a ridge regression fitted on the other folds; 0.5 on average where the two are alike. Source:
    classifier two-sample tests, Lopez-Paz and Oquab 2017, arXiv:1610.06545.
    """
    fold = np.arange(len(one)) % min(FOLDS, len(one))
    right = np.zeros(len(one))
    for number in np.unique(fold):
        fit, judged = fold != number, fold == number
        if not fit.any():
            return np.full(len(one), np.nan)
        x = np.concatenate((one[fit], other[fit]))
        y = np.repeat([-1.0, 1.0], int(fit.sum()))
        centre, scale = x.mean(0), x.std(0) + TINY
        x = (x - centre) / scale
        gram = x.T @ x
        gram += RIDGE * max(float(np.trace(gram)), TINY) * np.eye(len(gram)) / len(gram)
        rule = np.linalg.solve(gram, x.T @ y)
        for vectors, side in ((one, -1.0), (other, 1.0)):
            told = np.sign((vectors[judged] - centre) / scale @ rule)
            right[judged] += np.where(told == 0, 0.25, 0.5 * (told == side))
    return right
