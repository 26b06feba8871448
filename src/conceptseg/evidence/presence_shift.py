"""F4: multiplying with a steep sigmoid turns a modest shift of the presence logit into lost detections.

The presence head of the network is made to answer a shifted logit, and the ordinary answer is read; beside
it stands what the formula says from the unshifted answer alone: a detection of class score s is lost once
s x sigmoid(z + shift) <= threshold. Control: the same shift given to the class logits, without presence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit

from conceptseg.data.scenes import Scene
from conceptseg.evaluation.average_precision import match_detections
from conceptseg.evaluation.regions import region_iou
from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures
from conceptseg.evidence.prompt_swap import choose_phrases
from conceptseg.images import load_image
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.decoder import Decoder
from conceptseg.models.detector import DetectorOutput, ImageFeatures
from conceptseg.presence_reading import PresenceReading
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Bootstrap
from conceptseg.study.table import Table

REPORTED = -5.16  # of one obvious object, from -5.89 to -11.05: EfficientSAM3 issue 17
SMALL = (-1.0, -2.0, -3.0)
SHIFTS = (*SMALL, -4.0, REPORTED, -6.0, -8.0)
THRESHOLD = 0.5


class PresenceShift(Measurement):
    claim = "F4"
    changed = "the presence logit, by a constant"

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        rows = []
        for number in numbers:
            scene = pictures.scene(number)
            asked = choose_phrases(scene, np.random.default_rng([options.seed, 42, number]))
            if asked is not None:
                with segmenter.inference():
                    image = segmenter.encode_pixels([load_image(scene.image)])
                for phrase in asked[:2]:
                    rows.append({"scene": number, **shift_presence(segmenter, image, scene, phrase)})
        return rows

    def examples(self, table: Table) -> int:
        """Of the kind of prompt that there is less of."""
        return min(len(table.where(present=True)), len(table.where(present=False)))

    def lines(self, table: Table) -> list[Line]:
        there, absent = table.where(present=True), table.where(present=False)
        draws = Bootstrap(there.column("scene"))
        right = [len(it) for it in there.column("right")]
        lines = [
            Line("presence logit of present phrases", draws.mean(there.column("presence_logit"))),
            Line("class score of right detections", _over_detections(draws, there, _class_score)),
            Line("lost to presence as it is", _lost(draws, there.column("found"), right), ".1%", True),
        ]
        for place, shift in enumerate(SHIFTS):
            measured = [it[place] for it in there.column("found_shifted")]
            by_formula = [_passing(row, shift) for row in there.rows]
            by_class = [_passing_by_class(row, shift) for row in there.rows]
            gap = [f - m for f, m in zip(by_formula, measured, strict=True)]
            told = f"{shift:+g}"
            group = "right detections that are lost"
            lines += [
                Line(f"{told}: lost, measured", _lost(draws, measured, right), ".1%", group=group),
                Line(f"{told}: lost, by the formula", _lost(draws, by_formula, right), ".1%"),
                Line(f"{told}: measured less formula", draws.ratio(gap, right), ".2%"),
                Line(
                    f"{told}: lost with the class logits shifted instead",
                    _lost(draws, by_class, right),
                    ".1%",
                    True,
                    group,
                ),
                Line(
                    f"{told}: lost beyond that control",
                    draws.ratio([c - m for c, m in zip(by_class, measured, strict=True)], right),
                    ".1%",
                ),
                Line(f"{told}: what is left of a score", _over_detections(draws, there, _left(shift)), ".3f"),
            ]
        if len(absent):
            empty = Bootstrap(absent.column("scene"))
            lines.append(
                Line(
                    "absent phrases answered, as it is",
                    empty.mean([n > 0 for n in absent.column("detections")]),
                    ".1%",
                    True,
                )
            )
            for place, shift in enumerate(SHIFTS):
                answered = [it[place] > 0 for it in absent.column("detections_shifted")]
                lines.append(Line(f"{shift:+g}: absent phrases answered", empty.mean(answered), ".1%"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        small, reported = f"{SHIFTS[0]:+g}", f"{REPORTED:+g}"
        effect = (f"{small}: lost, measured", f"{reported}: lost, measured")
        exact = all(abs(lines[f"{s:+g}: measured less formula"].estimate.value) < 0.01 for s in SHIFTS)
        lost = lines[effect[1]].estimate
        if not exact:
            return Verdict("refuted", "what is lost is not what the product of the two scores says", effect)
        if lost.below(0.5):
            return Verdict(
                "refuted", "the shift that was reported loses less than half of the detections", effect
            )
        if not lost.above(0.5):
            return Verdict("depends", "the reported shift may lose half of the detections, or less", effect)
        if any(lines[f"{shift:+g}: lost beyond that control"].estimate.below() for shift in SMALL):
            return Verdict(
                "depends",
                "on where presence lies: where its logits are high the sigmoid is flat and takes in a small "
                "shift that class scores would not survive; a shift of the reported size is fatal",
                effect,
            )
        return Verdict(
            "confirmed", "even small shifts lose as much as those of the class scores would", effect
        )


@torch.no_grad()
def shift_presence(segmenter: Segmenter, image: ImageFeatures, scene: Scene, phrase: str) -> Row:
    """One phrase, asked with the presence head as it is and with it shifted.

    Returns:
        `right`: class logits of the right detections by class score alone (on an object of their own, box
        IoU of at least 0.5); `found` and `detections` of the ordinary answer; the same for every shift.
    """
    members = scene.phrases.get(phrase, [])
    size = scene.image.shape[0]
    boxes_xyxy = np.array([scene.objects[i].box_xyxy for i in members], float).reshape(-1, 4)

    def ask() -> DetectorOutput:
        with segmenter.inference():
            index = torch.zeros(1, dtype=torch.long, device=segmenter.device)
            return segmenter.detector.answer(image, segmenter.text_tokens([phrase]), None, index)

    def scores_of(output: DetectorOutput, mode: Any) -> np.ndarray:
        reading = PresenceReading(mode)
        return reading.scores(output.class_logits[-1], output.presence_logits[-1])[:, 0].cpu().numpy()

    plain = ask()
    class_logits = plain.class_logits[-1, :, 0].float().cpu().numpy()  # (N,)
    overlap = region_iou(
        cxcywh_to_xyxy(plain.boxes_cxcywh[-1, :, 0].float().cpu()).double().numpy() * size,
        boxes_xyxy,
        "boxes",
    )
    # Who is right does not depend on presence, which keeps the order of the scores of one answer.
    by_class = scores_of(plain, "ignore")
    chosen = np.flatnonzero(by_class > THRESHOLD)
    right = np.zeros(0, np.int64)
    if len(chosen) and len(boxes_xyxy):
        matches = match_detections(by_class[chosen], overlap[chosen], np.zeros(len(boxes_xyxy), bool))
        right = chosen[matches.order[matches.found[0] >= 0]]  # row 0 is IoU 0.5
    scores = scores_of(plain, "multiply")
    found, detections = [], []
    for shift in SHIFTS:
        with shifted_presence(segmenter.detector.decoder, shift):
            after = scores_of(ask(), "multiply")
        found.append(int((after[right] > THRESHOLD).sum()))
        detections.append(int((after > THRESHOLD).sum()))
    return {
        "phrase": phrase,
        "present": bool(members),
        "presence_logit": float(plain.presence_logits[-1, 0]),
        "right": class_logits[right].tolist(),
        "found": int((scores[right] > THRESHOLD).sum()),
        "detections": int((scores > THRESHOLD).sum()),
        "found_shifted": found,
        "detections_shifted": detections,
    }


@contextmanager
def shifted_presence(decoder: Decoder, shift: float) -> Iterator[None]:
    """Let the presence head answer so much more than it means."""
    hook = decoder.presence_head.register_forward_hook(lambda module, given, logits: logits + shift)
    try:
        yield
    finally:
        hook.remove()


def needed_shift(class_logit: float, presence_logit: float, threshold: float = THRESHOLD) -> float:
    """The shift at which a detection is lost: s x sigmoid(z + shift) = threshold."""
    share = threshold / float(expit(class_logit))
    return float("inf") if share >= 1 else float(logit(share)) - presence_logit


def _passing(row: Row, shift: float) -> int:
    return sum(shift > needed_shift(c, row["presence_logit"]) for c in row["right"])


def _passing_by_class(row: Row, shift: float) -> int:
    return sum(float(expit(c + shift)) > THRESHOLD for c in row["right"])


def _lost(draws: Bootstrap, kept: list[int], right: list[int]) -> Any:
    return draws.ratio([r - k for k, r in zip(kept, right, strict=True)], right)


def _class_score(row: Row, class_logit: float) -> float:
    return float(expit(class_logit))


def _left(shift: float) -> Any:
    return lambda row, _: float(expit(row["presence_logit"] + shift) / expit(row["presence_logit"]))


def _over_detections(draws: Bootstrap, table: Table, value: Any) -> Any:
    """Mean over right detections, drawn by scene."""
    sums = [sum(value(row, c) for c in row["right"]) for row in table.rows]
    return draws.ratio(sums, [len(row["right"]) for row in table.rows])
