"""How a trained variant is judged: the same questions about the same pictures, whatever was trained.

Of every picture one question whose answer is there and one whose answer is not, by an example box or by a
phrase; and how near the token of the example lies to what the vision encoder sees under it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.data.scenes import Scene
from conceptseg.errors import DataError
from conceptseg.evidence.example_robustness import THRESHOLD, count
from conceptseg.evidence.measurement import Row
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.evidence.trainings_recipe import Asks
from conceptseg.exemplars.agreement import rank_of_own, unit
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject
from conceptseg.losses.alignment import AlignmentLoss
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.exemplar.encoder import ExemplarTrace, pool_regions
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.segmenter import EncodedImage, Segmenter

CELLS = 7  # per side of the patch under a box
ANSWER = ("right", "predicted", "targets", "false")  # "right": mean over the thresholds of IoU


@dataclass(frozen=True)
class Asked:
    """A picture, an example of what it shows, and one of what it does not, on another picture."""

    number: int
    scene: Scene
    example: ShownObject
    beside: Scene
    absent: ShownObject
    phrase: str
    absent_phrase: str


def questions(pictures: Pictures) -> list[Asked]:
    """Of every picture that gives them."""
    asked = []
    for number in range(len(pictures)):
        scene, rng = pictures.scene(number), np.random.default_rng([81, number])
        example, elsewhere = choose_object(shown(scene), rng), pictures.elsewhere(number)
        if example is None or elsewhere is None or not scene.phrases or not scene.absent_phrases:
            continue
        beside, concept = elsewhere
        members = tuple(one for one in shown(beside).objects if one.concept == concept)
        absent = choose_object(ShownImage(beside.image, members), rng)
        if absent is None:
            continue
        present = list(scene.phrases)
        phrase = present[int(rng.integers(len(present)))]
        absent_phrase = scene.absent_phrases[int(rng.integers(len(scene.absent_phrases)))]
        asked.append(Asked(number, scene, example, beside, absent, phrase, absent_phrase))
    return asked


class JudgedPictures:
    """Pictures that judge, with the features of a vision encoder that no variant trains.

    Raises:
        DataError: no picture gives a question.
    """

    def __init__(self, segmenter: Segmenter, pictures: Pictures) -> None:
        self.name = pictures.name
        self.asked = questions(pictures)
        if not self.asked:
            raise DataError(f"none of {len(pictures)} {self.name} shows one thing and surely not another")
        self._encoded = [(encode(segmenter, one.scene), encode(segmenter, one.beside)) for one in self.asked]

    def encoded(self, segmenter: Segmenter, place: int, moved: bool) -> tuple[EncodedImage, EncodedImage]:
        """The picture and the one beside it, as a variant's vision encoder sees them."""
        if moved:
            asked = self.asked[place]
            return encode(segmenter, asked.scene), encode(segmenter, asked.beside)
        first, second = self._encoded[place]
        return (
            dataclasses.replace(first, model=segmenter.fingerprint),
            dataclasses.replace(second, model=segmenter.fingerprint),
        )


def encode(segmenter: Segmenter, scene: Scene) -> EncodedImage:
    """A picture's features without those of the trunk, of which many would fill the memory."""
    made = segmenter.encode(scene.image)
    return dataclasses.replace(made, features=dataclasses.replace(made.features, trunk=[]))


def judge(
    segmenter: Segmenter, pictures: JudgedPictures, asks: Asks, loss: AlignmentLoss | None, moved: bool
) -> list[Row]:
    """A row for every picture.

    Args:
        segmenter: the trained variant.
        pictures: that judge.
        asks: by what.
        loss: the alignment losses with their trained projection; None where there is none.
        moved: the vision encoder has trained, so that the features that are kept are another one's.

    Returns:
        `ANSWER`, and of the example's token: cosine with the feature under its box (`own`), less that with
        features of the others (`apart`), whether it is nearest to its own (`first`), and the same in the
        space that the losses are computed in (`projected_own`, `projected_apart`).
    """
    rows, tokens, features = [], [], []
    for place, it in enumerate(pictures.asked):
        here, beside = pictures.encoded(segmenter, place, moved)
        rows.append(
            {"pictures": pictures.name, "picture": it.number, **_answer(segmenter, it, asks, here, beside)}
        )
        token, feature = read_example(segmenter, here, it.example)
        tokens.append(token)
        features.append(feature)
    gap = _gap(torch.stack(tokens), torch.stack(features), loss)
    return [row | {name: float(values[i]) for name, values in gap.items()} for i, row in enumerate(rows)]


def _answer(segmenter: Segmenter, it: Asked, asks: Asks, here: EncodedImage, beside: EncodedImage) -> Row:
    if asks == "phrases":
        found, false = segmenter.segment(here, text=[it.phrase, it.absent_phrase], threshold=THRESHOLD)
        wanted = it.scene.phrases[it.phrase]
    else:
        found = segmenter.segment(here, boxes=[list(it.example.box_xyxy)], threshold=THRESHOLD)
        kind = segmenter.exemplar(beside, boxes=[list(it.absent.box_xyxy)])
        false = segmenter.segment(here, exemplar=kind, threshold=THRESHOLD)
        wanted = it.scene.families[it.example.concept]
    masks = np.stack([it.scene.objects[member].mask for member in wanted])
    predicted, _, right = count(found, masks)
    return dict(zip(ANSWER, (round(right, 3), predicted, len(wanted), len(false)), strict=True))


def trace_example(segmenter: Segmenter, encoded: EncodedImage, it: ShownObject) -> ExemplarTrace:
    """What the exemplar encoder makes of one example, and what it looked at."""
    features = encoded.features
    boxes = pixels_to_cxcywh([it.box_xyxy], encoded.size_hw)[None].to(segmenter.device)  # (1, 1, 4)
    prompt = GeometricPrompt(boxes, torch.ones(1, 1, dtype=torch.long, device=segmenter.device))
    index = torch.zeros(1, dtype=torch.long, device=segmenter.device)
    with segmenter.inference():
        encoder = segmenter.detector.exemplar_encoder
        return encoder.trace(features.levels[-1], features.positions[-1], index, prompt)


def read_example(segmenter: Segmenter, encoded: EncodedImage, it: ShownObject) -> tuple[Tensor, Tensor]:
    """The token (D,) of an example, and the mean image feature (D,) under its box."""
    token = trace_example(segmenter, encoded, it).tokens.tokens[0, 0]
    level = encoded.features.levels[-1]
    boxes = pixels_to_cxcywh([it.box_xyxy], encoded.size_hw)[None].to(level.device)
    index = torch.zeros(1, dtype=torch.long, device=level.device)
    feature = pool_regions(level, index, boxes, CELLS).mean((3, 4))[0, 0]
    return token.detach().float().cpu(), feature.detach().float().cpu()


@torch.no_grad()
def _gap(tokens: Tensor, features: Tensor, loss: AlignmentLoss | None) -> dict[str, NDArray[Any]]:
    """Of n examples, each (n,): see `judge`; NaN in the space of the losses where there are none."""
    own, apart, first = _nearness(tokens, features)
    gap = {"own": own, "apart": apart, "first": first}
    nothing = np.full(len(own), np.nan)
    gap |= {"projected_own": nothing, "projected_apart": nothing}
    if loss is not None and loss.projection is not None:
        own, apart, _ = _nearness(loss.projection(tokens), loss.projection(features))
        gap |= {"projected_own": own, "projected_apart": apart}
    return {name: values.round(3) for name, values in gap.items()}


def _nearness(tokens: Tensor, features: Tensor) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    cosine = unit(tokens.double().numpy()) @ unit(features.double().numpy()).T  # (n, n)
    own = np.diag(cosine)
    others = (cosine.sum(1) - own) / max(1, len(cosine) - 1)
    return own, own - others, (rank_of_own(cosine) == 1).astype(float)
