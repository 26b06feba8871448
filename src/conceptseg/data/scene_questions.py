"""Which prompts a training scene is asked: phrases there and not there, boxes, both, boxes on another scene.

What an example box means is fixed here: the *family* of the object under it, its whole look (a red striped
circle means red striped circles, not all circles). A negative box takes its family out of what a phrase
names.
"""

from __future__ import annotations

import numpy as np

from conceptseg.data.batch import Question
from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scenes import Scene
from conceptseg.data.scenes.phrases import parse
from conceptseg.prompts import VISUAL

# Things that no scene shows. They teach that an unknown word is a reason to say no.
UNKNOWN_THINGS = (
    "person man woman child dog cat horse cow sheep elephant bear zebra giraffe chair sofa bed table "
    "desk lamp window door road bridge airplane train bus truck bicycle motorcycle traffic light "
    "bench backpack handbag tie suitcase frisbee skis snowboard kite skateboard surfboard fork "
    "knife spoon bowl sandwich pizza cake laptop keyboard phone microwave oven toaster sink vase "
    "scissors toothbrush guitar piano drum violin camera television mountain river cloud grass rock "
    "shirt shoe hat glasses watch pencil brush hammer"
).split()


class QuestionMaker:
    """Draws prompts for scenes; every draw is determined by the generator that is passed in."""

    def __init__(self, config: QuestionConfig) -> None:
        self.config = config

    def ask(self, scenes: list[Scene], image: int, rng: np.random.Generator) -> Question:
        """One question about `scenes[image]`; falls back to a phrase where its kind cannot be asked."""
        kind = self.config.draw(rng)
        scene = scenes[image]
        question: Question | None = None
        if kind == "absent_phrase" and scene.absent_phrases:
            question = self._absent(scene, image, rng)
        elif kind == "boxes" and scene.families:
            question = self._boxes(scene, image, rng)
        elif kind == "phrase_and_boxes" and scene.phrases:
            question = self._phrase_and_boxes(scene, image, rng)
        elif kind == "other_image":
            question = self._other_image(scenes, image, rng)
        return question or self._phrase(scene, image, rng)

    def _phrase(self, scene: Scene, image: int, rng: np.random.Generator) -> Question:
        if not scene.phrases:
            return self._absent(scene, image, rng)
        phrases = sorted(scene.phrases)
        if self.config.noun_share and rng.random() < self.config.noun_share:
            # Scenes have few nouns and many phrases with attributes, but absent phrases are often bare nouns:
            # drawn evenly, a bare "mug" would by itself mean that there is none.
            phrases = [phrase for phrase in phrases if parse(phrase).is_noun] or phrases
        phrase = _pick(phrases, rng)
        return Question(image, phrase, [], [], image, scene.phrases[phrase])

    def _absent(self, scene: Scene, image: int, rng: np.random.Generator) -> Question:
        unknown = rng.random() < self.config.unknown_share or not scene.absent_phrases
        phrase = _pick(UNKNOWN_THINGS if unknown else scene.absent_phrases, rng)
        return Question(image, phrase, [], [], image, [])

    def _boxes(self, scene: Scene, image: int, rng: np.random.Generator) -> Question:
        family = _pick(sorted(scene.families), rng)
        wanted = list(scene.families[family])
        positives = [int(i) for i in rng.permutation(wanted)[: rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])]]
        others = [i for name, members in scene.families.items() if name != family for i in members]
        negatives = [int(i) for i in rng.permutation(others)[: rng.choice([0, 1, 2], p=[0.65, 0.25, 0.1])]]
        return self._with_boxes(scene, image, VISUAL, positives, negatives, wanted, rng)

    def _phrase_and_boxes(self, scene: Scene, image: int, rng: np.random.Generator) -> Question:
        phrase = _pick(sorted(scene.phrases), rng)
        wanted = list(scene.phrases[phrase])
        families = [members for members in scene.families.values() if set(members) & set(wanted)]
        negatives: list[int] = []
        if len(families) > 1 and rng.random() < 0.6:
            excluded = [i for i in families[rng.integers(len(families))] if i in wanted]
            negatives = [int(rng.choice(excluded))]
            wanted = [i for i in wanted if i not in excluded]
        count = rng.integers(0 if negatives else 1, 3)
        positives = [int(i) for i in rng.permutation(wanted)[:count]]
        return self._with_boxes(scene, image, phrase, positives, negatives, wanted, rng)

    def _other_image(self, scenes: list[Scene], image: int, rng: np.random.Generator) -> Question | None:
        beside = image ^ 1  # scenes come in pairs that share a theme
        if beside >= len(scenes) or not scenes[beside].families:
            return None
        family = _pick(sorted(scenes[beside].families), rng)
        members = scenes[beside].families[family]
        positives = [int(i) for i in rng.permutation(members)[: rng.integers(1, 4)]]
        wanted = scenes[image].families.get(family, [])
        if not self.knows(family, scenes[image]):
            return None
        question = self._with_boxes(scenes[beside], beside, VISUAL, positives, [], list(wanted), rng)
        question.image = image
        return question

    def knows(self, family: str, scene: Scene) -> bool:
        """Whether a scene surely shows a family, or surely does not."""
        return family in scene.families or not could_be_confused(family, scene)

    def _with_boxes(
        self,
        scene: Scene,
        image: int,
        phrase: str,
        positives: list[int],
        negatives: list[int],
        wanted: list[int],
        rng: np.random.Generator,
    ) -> Question:
        boxes = [self._noisy(scene.objects[i].box_xyxy, scene, rng) for i in positives + negatives]
        labels = [1] * len(positives) + [0] * len(negatives)
        return Question(image, phrase, boxes, labels, image, wanted)

    def _noisy(
        self, box: tuple[float, float, float, float], scene: Scene, rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """A box as a person would draw it: not quite tight, inside the image, never empty."""
        height, width = scene.image.shape[:2]
        x0, y0, x1, y1 = box
        noise = np.clip(rng.normal(0, self.config.box_noise, 4), -0.15, 0.15)
        dx, dy = x1 - x0, y1 - y0
        nx0, ny0 = np.clip((x0 + noise[0] * dx, y0 + noise[1] * dy), 0.0, (width - 1.0, height - 1.0))
        nx1, ny1 = min(x1 + noise[2] * dx, float(width)), min(y1 + noise[3] * dy, float(height))
        return (float(nx0), float(ny0), float(max(nx1, nx0 + 1)), float(max(ny1, ny0 + 1)))


def could_be_confused(family: str, scene: Scene) -> bool:
    """Whether an object of the scene may look the same under a name with fewer or more words.

    Families are told apart within one scene; across scenes a plainer name could hide the same look.
    """
    kind, words = family.split()[-1], set(family.split())
    return any(
        (name.split()[-1] == kind and set(name.split()) < words) or words < set(name.split())
        for name in scene.families
    )


def _pick(names: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    return str(names[int(rng.integers(len(names)))])
