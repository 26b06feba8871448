"""F2: the fused memory depends on the prompt, and the decoder reads the prompt too.

The prompt enters a detector at three places: the fusion encoder, the decoder and the scores' dot product.
Each is given another phrase than the two others:

    present   the picture shows what the phrase names; one place hears a phrase that names nothing
    absent    the phrase names nothing; one place hears a phrase of what is there
    control   the phrase names nothing; one place hears another phrase that names nothing
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from conceptseg.data.scenes import Scene
from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures
from conceptseg.images import load_image
from conceptseg.models.prompts import PromptTokens, join_prompts
from conceptseg.presence_reading import PresenceReading
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Bootstrap, numbers
from conceptseg.study.table import Table

PLACES = ("fusion", "decoder", "scores")
SWAPS = {
    "present": ("p", "a"),
    "absent": ("a", "p"),
    "control": ("a", "x"),
}  # own phrase, and what a place hears instead


class PromptSwap(Measurement):
    claim = "F2"
    changed = "the phrase that one place of the network hears"

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        rows = []
        for number in numbers:
            scene = pictures.scene(number)
            asked = choose_phrases(scene, np.random.default_rng([options.seed, 41, number]))
            if asked is not None:
                rows.append({"scene": number, "phrases": list(asked), **swap(segmenter, scene, asked)})
        return rows

    def lines(self, table: Table) -> list[Line]:
        draws = Bootstrap(table.column("scene"))

        def change(kind: str, place: str, what: str) -> list[float]:
            own, other = SWAPS[kind]
            after = heard(own, other, place)
            return list(numbers(table.column(f"{what} {after}")) - numbers(table.column(f"{what} {own * 3}")))

        lines = [
            Line("presence logit of a present phrase", draws.mean(table.column("presence ppp"))),
            Line("presence logit of an absent phrase", draws.mean(table.column("presence aaa"))),
        ]
        for kind in SWAPS:
            for place in (*PLACES[:2], "everywhere"):
                name = f"{kind}: swapped {_at(place)}, presence logit"
                value = draws.mean(change(kind, place, "presence"))
                lines.append(
                    Line(name, value, control=kind == "control", group="change of the presence logit")
                )
        for kind in SWAPS:
            for place in (*PLACES, "everywhere"):
                name = f"{kind}: swapped {_at(place)}, best score"
                value = draws.mean(change(kind, place, "score"))
                lines.append(Line(name, value, ".3f", kind == "control", "change of the best score"))
        for place in PLACES[:2]:
            share = draws.ratio(
                change("present", place, "presence"), change("present", "everywhere", "presence")
            )
            lines.append(Line(f"share of the whole swap's effect on presence: {place}", share, ".1%"))
        lines += [
            Line(
                "memory: change with an absent phrase in place of a present one",
                draws.mean(table.column("memory pa")),
                ".3f",
            ),
            Line(
                "memory: change with an absent phrase in place of another",
                draws.mean(table.column("memory ax")),
                ".3f",
                True,
            ),
            Line(
                "no swap: difference from the ordinary answer, presence logit",
                draws.mean(table.column("no swap")),
                ".1e",
                True,
            ),
        ]
        for place in PLACES[:2]:
            beyond = np.abs(change("present", place, "presence")) - np.abs(
                change("control", place, "presence")
            )
            lines.append(Line(f"{place}: size of the change beyond the control's", draws.mean(beyond)))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = tuple(f"present: swapped at {place}, presence logit" for place in PLACES[:2])
        works = [
            place
            for place, name in zip(PLACES, effect, strict=False)
            if lines[name].estimate.below()
            and lines[f"{place}: size of the change beyond the control's"].estimate.above()
        ]
        if len(works) == 2:
            return Verdict("confirmed", "either place alone changes presence, beyond the control", effect)
        if works:
            return Verdict(
                "depends", f"only a swap at the {works[0]} moves presence beyond the control", effect
            )
        return Verdict("refuted", "no place alone lowers presence beyond the control", effect)


def choose_phrases(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str] | None:
    """A phrase that is true of something, and two that are not; None where there are none."""
    present, absent = list(scene.phrases), list(scene.absent_phrases)
    if not present or len(absent) < 2:
        return None
    first, second = rng.permutation(len(absent))[:2]
    return present[int(rng.integers(len(present)))], absent[first], absent[second]


def heard(own: str, other: str, place: str) -> str:
    """Letters of the phrases that fusion, decoder and scores hear, when one place hears the other."""
    if place == "everywhere":
        return other * 3
    return "".join(other if it == place else own for it in PLACES)


@torch.no_grad()
def swap(segmenter: Segmenter, scene: Scene, phrases: Sequence[str]) -> Row:
    """All that the three phrases (p, a, x) give together.

    Returns:
        `presence FDS` and `score FDS` (of the best query) for what fusion, decoder and scores hear; `memory
        pa` and `memory ax`, relative changes; `no swap`, presence beside that of the ordinary answer.
    """
    detector, letters = segmenter.detector, "pax"
    with segmenter.inference():
        image = segmenter.encode_pixels([load_image(scene.image)])
        index = torch.zeros(len(letters), dtype=torch.long, device=segmenter.device)
        prompt = join_prompts(
            segmenter.text_tokens(phrases), detector.encode_exemplars(image, None, index)
        )  # (S, 3, D)
        fusion = detector.fuse(image, index, prompt)

        def one(letter: str) -> PromptTokens:
            number = letters.index(letter)
            return prompt.of(slice(number, number + 1))

        row: Row = {}
        wanted = {"ppp", "aaa"}
        for own, other in SWAPS.values():
            wanted |= {heard(own, other, place) for place in (*PLACES, "everywhere")}
        decoded = {}
        for f, d in sorted({(name[0], name[1]) for name in wanted}):
            place = letters.index(f)
            part = dataclasses.replace(fusion.of(slice(place, place + 1)), prompt=one(d))
            decoded[f + d] = detector.decode(image, part)
        for name in sorted(wanted):
            answer = decoded[name[:2]]
            logit = answer.presence_logits[-1]  # (1,)
            scores = PresenceReading().scores(detector.scoring(answer.hidden, one(name[2]))[-1], logit)
            row[f"presence {name}"] = float(logit)
            row[f"score {name}"] = float(scores.max())
        ordinary = detector.answer(image, segmenter.text_tokens(phrases[:1]), None, index[:1])
        row["no swap"] = row["presence ppp"] - float(ordinary.presence_logits[-1])
        p, a, x = fusion.memory.float().unbind(1)  # each (HW, D)
        row["memory pa"], row["memory ax"] = _relative(p, a), _relative(a, x)
    return row


def _relative(before: Tensor, after: Tensor) -> float:
    return float((after - before).norm() / before.norm())


def _at(place: str) -> str:
    return place if place == "everywhere" else f"at {place}"
