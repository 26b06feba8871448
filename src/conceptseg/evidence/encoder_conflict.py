"""G2: exemplar encoder and detector pull the vision encoder in opposite directions.

`exemplars.conflict` gives the two gradients of one example's detection loss on the vision encoder's weights;
their cosine is -1 against each other, 0 unrelated, 1 together. Control: the gradient through the exemplar
encoder of another example. Measured of the finished model, of the same at half of its training where that was
kept, and with freshly initialised exemplar encoders.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.exemplars.align_run import with_encoder
from conceptseg.exemplars.conflict import TwoGradients, both_gradients
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Bootstrap, numbers
from conceptseg.study.table import Table

FINISHED, HALF, FRESH = "finished", "half-trained", "fresh"


class EncoderConflict(Measurement):
    claim = "G2"
    changed = "nothing: the gradients of single examples"
    least = 64
    pictures = 80
    together = 4  # of which each is the control of the next
    photographs = True

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        chosen: list[tuple[int, ShownImage, ShownObject]] = []
        for number in numbers:
            image = shown(pictures.scene(number))
            it = choose_object(image, np.random.default_rng([options.seed, 52, number]))
            if it is not None:
                chosen.append((number, image, it))
        rows = []
        half = [] if options.half_trained is None else [(HALF, 0)]
        for state, seed in [(FINISHED, 0), *half, *((FRESH, seed) for seed in options.fresh_seeds)]:
            if state == FRESH:
                model = with_fresh_exemplars(segmenter, seed)
            else:
                model = (
                    segmenter if options.half_trained is None or state == FINISHED else options.half_trained
                )
            gradients = [both_gradients(model, image, it) for _, image, it in chosen]
            for i, (number, _, _) in enumerate(chosen):
                own, other = gradients[i], gradients[i - 1]
                rows.append(
                    {
                        "scene": number,
                        "encoder": state,
                        "seed": seed,
                        "cosine": cosine(own),
                        "shuffled": None
                        if len(chosen) < 2
                        else cosine(TwoGradients(other.through_exemplar, own.through_detector)),
                        "length ratio": float(
                            own.through_exemplar.norm() / own.through_detector.norm().clamp(min=1e-12)
                        ),
                    }
                )
        return rows

    def examples(self, table: Table) -> int:
        return len(table.where(encoder=FINISHED))

    def lines(self, table: Table) -> list[Line]:
        lines = []
        for state in (FINISHED, HALF, FRESH):
            part = table.where(encoder=state)
            if not len(part):
                continue
            draws = Bootstrap(part.column("scene"), part.column("seed"))
            group = "cosine of the two gradients"
            own, shuffled = (numbers(part.column(name)) for name in ("cosine", "shuffled"))
            lines += [
                Line(f"{state}: cosine", draws.mean(own), ".3f", group=group),
                Line(f"{state}: cosine, shuffled examples", draws.mean(shuffled), ".3f", True, group),
                Line(
                    f"{state}: cosine less that of shuffled examples", draws.difference(own, shuffled), ".3f"
                ),
                Line(f"{state}: share opposing", draws.mean(_opposing(own)), ".1%"),
                Line(
                    f"{state}: share opposing, shuffled examples",
                    draws.mean(_opposing(shuffled)),
                    ".1%",
                    True,
                ),
                Line(
                    f"{state}: length through the exemplar encoder, of that through the detector",
                    draws.mean(part.column("length ratio")),
                    ".2f",
                ),
            ]
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        states = [state for state in (FINISHED, HALF, FRESH) if f"{state}: cosine" in lines]
        effect = tuple(f"{state}: cosine" for state in states)
        opposing = [
            state
            for state in states
            if lines[f"{state}: cosine"].estimate.below()
            and lines[f"{state}: cosine less that of shuffled examples"].estimate.below()
        ]
        if len(opposing) == len(states):
            return Verdict(
                "confirmed", "gradients oppose each other, beyond those of shuffled examples", effect
            )
        if opposing:
            some = " and the ".join(opposing)
            return Verdict("depends", f"they oppose each other with the {some} encoder alone", effect)
        return Verdict("refuted", "they do not oppose each other beyond those of shuffled examples", effect)


def with_fresh_exemplars(segmenter: Segmenter, seed: int) -> Segmenter:
    """The same model with an exemplar encoder that was never trained."""
    config = segmenter.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector, config = with_encoder(
            segmenter.trainable(), config, config.architecture.exemplar, fresh=True
        )
    resolution = segmenter.resolution
    return Segmenter(detector, segmenter.tokenizer, config, device=segmenter.device, resolution=resolution)


def cosine(gradients: TwoGradients) -> float:
    """-1 to 1; NaN where one of them is nothing."""
    one, other = gradients.through_exemplar, gradients.through_detector
    return float(F.cosine_similarity(one, other, dim=0)) if _length(one) and _length(other) else float("nan")


def _length(gradient: Tensor) -> float:
    return float(gradient.norm())


def _opposing(cosines: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(cosines), cosines < 0, np.nan)
