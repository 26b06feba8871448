"""What is true of what: the objects of some scenes against many prompts, to align regions with words.

A question has one answer about one scene; here the phrases of all scenes of a batch are asked of all their
objects, so that 24 scenes give thousands of pairs. Example boxes are asked too: each means the family of its
object.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from conceptseg.data.batch import RegionPhrases
from conceptseg.data.scenes import Scene
from conceptseg.data.scenes.phrases import Attributes, Words, parse, truth
from conceptseg.data.scenes.scene import SceneObject
from conceptseg.models.boxes import xyxy_to_cxcywh
from conceptseg.models.text.tokenizer import Tokenizer

UNCLEAR = -1


def collect_region_phrases(
    scenes: Sequence[Scene],
    masks: Sequence[Tensor],
    tokenizer: Tokenizer,
    per_scene: int,
    rng: np.random.Generator,
    examples: bool = True,
) -> RegionPhrases:
    """Draw phrases and example boxes from the scenes and say what each is true of.

    Args:
        scenes: I of them.
        masks: of each scene's objects, (objects, h, w).
        per_scene: phrases drawn from each scene, and half as many absent ones.
        examples: also one example box of each scene.
    """
    phrases = _draw(scenes, per_scene, rng)
    objects = [(image, it) for image, scene in enumerate(scenes) for it in scene.objects]
    answers = torch.full((len(phrases), len(objects)), UNCLEAR, dtype=torch.int8)
    known: dict[tuple[Attributes, bool, bool], Tensor] = {}
    for column, (image, it) in enumerate(objects):
        scene = scenes[image]
        looks = Attributes(it.kind, it.color, it.pattern, it.size, it.unclear_colors)
        key = (looks, scene.greyscale, scene.sizes_clear)
        if key not in known:
            known[key] = _truths(list(phrases.values()), *key)
        answers[:, column] = known[key]
    by_scene = [_of(objects, image) for image in range(len(scenes))]
    chosen = [int(rng.choice(own)) for own in by_scene if own] if examples else []
    boxes = torch.tensor([it.box_xyxy for _, it in objects]).view(-1, 4)
    sizes = torch.tensor([scenes[image].image.shape[1::-1] for image, _ in objects]).repeat(1, 2).view(-1, 4)
    return RegionPhrases(
        masks=torch.cat(list(masks)),
        boxes_cxcywh=xyxy_to_cxcywh(boxes / sizes),
        image_index=torch.tensor([image for image, _ in objects], dtype=torch.long),
        token_ids=tokenizer(list(phrases)),
        examples=torch.tensor(chosen, dtype=torch.long),
        truth=torch.cat([answers, _same_family(objects, chosen)]),
    )


def _draw(scenes: Sequence[Scene], per_scene: int, rng: np.random.Generator) -> dict[str, Words]:
    """Phrases of the grammar, of all scenes together; each noun and colour on its own as well."""
    phrases: dict[str, Words] = {}
    for scene in scenes:
        drawn: list[str] = []
        for source, count in ((sorted(scene.phrases), per_scene), (scene.absent_phrases, per_scene // 2)):
            drawn += [source[i] for i in rng.permutation(len(source))[:count]]
        for it in scene.objects[:2]:
            drawn += [it.kind, *([f"{it.color} thing"] if it.color else [])]
        phrases.update({phrase: parse(phrase) for phrase in drawn if phrase not in phrases})
    return phrases


def _truths(words: list[Words], looks: Attributes, greyscale: bool, sizes_clear: bool) -> Tensor:
    answers = [truth(w, looks, greyscale=greyscale, sizes_clear=sizes_clear) for w in words]
    return torch.tensor([UNCLEAR if answer is None else int(answer) for answer in answers], dtype=torch.int8)


def _of(objects: list[tuple[int, SceneObject]], image: int) -> list[int]:
    return [i for i, (own, _) in enumerate(objects) if own == image]


def _same_family(objects: list[tuple[int, SceneObject]], examples: list[int]) -> Tensor:
    """(examples, objects): one look within a scene; across scenes a look may go by two names, so unclear."""
    answers = torch.full((len(examples), len(objects)), UNCLEAR, dtype=torch.int8)
    for row, example in enumerate(examples):
        image, it = objects[example]
        for column in _of(objects, image):
            answers[row, column] = int(objects[column][1].family == it.family)
    return answers
