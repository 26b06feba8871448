"""Ask a model, and its teacher, every phrase of labelled images, and keep what diagnosis needs.

Both models see the same images, each at its own resolution and normalised as in use, and the same phrases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.data.concept_image import ConceptImage
from conceptseg.errors import DataError, OptionError
from conceptseg.images import load_image
from conceptseg.models.boxes import cxcywh_to_xyxy, pixels_to_cxcywh
from conceptseg.models.detector import DetectorOutput, DetectorTrace, ImageFeatures
from conceptseg.models.prompts import GeometricPrompt, PromptTokens
from conceptseg.presence.drift import Drift
from conceptseg.presence.pair_outcomes import PairAnswer, read_answer
from conceptseg.presence_reading import PresenceReading
from conceptseg.segmenter import PAIRS_AT_ONCE, Segmenter

EXAMPLES_PER_IMAGE = 8  # boxes whose exemplar tokens are compared


@dataclass(frozen=True)
class Observations:
    """What one pass over the data gave."""

    student: list[PairAnswer]
    teacher: list[PairAnswer]  # empty without a teacher; else pair by pair the same questions
    drift: Drift


def observe(
    student: Segmenter,
    images: Sequence[ConceptImage],
    teacher: Segmenter | None = None,
    *,
    count: int,
    threshold: float = 0.5,
    absent: Sequence[str] = (),
    phrases: int | None = None,
    compare: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Observations:
    """Ask what is known about the first `count` images.

    Args:
        student: the model that is looked into.
        images: labelled ones.
        teacher: the model that it should be like.
        count: of the images.
        threshold: scores above it count as detections.
        absent: phrases to ask of every image that does not show them, beside those the data names.
        phrases: of each image so many present and as many absent ones at most, evenly spaced; None for all.
        compare: also compare features with the teacher's.
        progress: called with the number of images that are done and the number wanted.

    Raises:
        ImageError: an image cannot be read.
        DataError: an image has another size than its annotations say.
        OptionError: an impossible threshold or number of phrases.
    """
    if phrases is not None and phrases < 1:
        raise OptionError(f"phrases is {phrases}; ask at least one per image")
    if not 0 <= threshold <= 1:
        raise OptionError(f"threshold is {threshold}; give a number from 0 to 1")
    found = Observations([], [], Drift())
    for number in range(count):
        image = images[number]
        if asked := _phrases_of(image, absent, phrases):
            _observe_image(student, teacher, image, asked, threshold, compare, found)
        if progress is not None:
            progress(number + 1, count)
    return found


def _observe_image(
    student: Segmenter,
    teacher: Segmenter | None,
    image: ConceptImage,
    phrases: list[str],
    threshold: float,
    compare: bool,
    found: Observations,
) -> None:
    loaded = load_image(image.path)
    if loaded.size_hw != (image.height, image.width):
        raise DataError(
            f"{image.path} is {loaded.size_hw[1]} x {loaded.size_hw[0]} pixels, but its annotations are for "
            f"{image.width} x {image.height}"
        )
    models = [student] if teacher is None else [student, teacher]
    features = [model.encode_pixels([loaded]) for model in models]
    examples = _example_boxes(image)
    for start in range(0, len(phrases), PAIRS_AT_ONCE):
        some = phrases[start : start + PAIRS_AT_ONCE]
        outputs = [ask(model, part, some) for model, part in zip(models, features, strict=True)]
        answers = (found.student, found.teacher)
        for model, output, kept in zip(models, outputs, answers, strict=False):
            kept.extend(_answers(model, output, image, some, threshold))
        if teacher is not None and compare:
            found.drift.add(outputs[0], outputs[1], _same_words(student, teacher, some))
    if teacher is not None and compare and len(examples):
        ours, others = (
            encode_examples(model, part, examples) for model, part in zip(models, features, strict=True)
        )
        found.drift.add_exemplars(ours, others)


def ask(model: Segmenter, features: ImageFeatures, phrases: Sequence[str]) -> DetectorTrace:
    """The raw answers to phrases about one encoded image, with everything in between."""
    index = torch.zeros(len(phrases), dtype=torch.long, device=model.device)
    with model.inference():
        return model.detector.answer(features, model.text_tokens(phrases), None, index)


def encode_examples(model: Segmenter, features: ImageFeatures, boxes_cxcywh: Tensor) -> PromptTokens:
    """Every box (M, 4) as an example of its own: (2, M, D), its token and the summary token."""
    boxes = boxes_cxcywh[:, None].to(model.device)  # (M, 1, 4): M prompts of one box
    labels = torch.ones(boxes.shape[:2], dtype=torch.long, device=model.device)
    index = torch.zeros(len(boxes), dtype=torch.long, device=model.device)
    with model.inference():
        return model.detector.encode_exemplars(features, GeometricPrompt(boxes, labels), index)


def _answers(
    model: Segmenter, output: DetectorOutput, image: ConceptImage, phrases: Sequence[str], threshold: float
) -> list[PairAnswer]:
    size = torch.tensor([image.width, image.height, image.width, image.height])
    class_logits = output.class_logits[-1].float().cpu()  # (N, B)
    boxes_xyxy = cxcywh_to_xyxy(output.boxes_cxcywh[-1].float().cpu()) * size  # (N, B, 4) in pixels
    presence_logits = output.presence_logits[-1].float().cpu().tolist()
    return [
        read_answer(
            phrase,
            class_logits[:, pair],
            presence_logits[pair],
            boxes_xyxy[:, pair],
            [it.box_xyxy for it in image.phrases.get(phrase, ()) if not it.crowd],
            present=phrase in image.phrases,
            exhaustive=phrase not in image.incomplete_phrases,
            threshold=threshold,
            reading=PresenceReading.of(model.config),
        )
        for pair, phrase in enumerate(phrases)
    ]


def _phrases_of(image: ConceptImage, absent: Sequence[str], most: int | None) -> list[str]:
    named = dict.fromkeys([*image.absent_phrases, *absent])
    kinds = list(image.phrases), [phrase for phrase in named if phrase not in image.phrases]
    return [phrase for kind in kinds for phrase in _some(kind, most)]


def _some(phrases: list[str], most: int | None) -> list[str]:
    """At most so many, evenly spaced: neighbours in an alphabet are often alike."""
    if most is None or len(phrases) <= most:
        return phrases
    return [phrases[i * len(phrases) // most] for i in range(most)]


def _example_boxes(image: ConceptImage) -> Tensor:
    """(M, 4) cxcywh in 0..1 of some objects, one per phrase."""
    firsts = [
        next((it.box_xyxy for it in objects if not it.crowd), None) for objects in image.phrases.values()
    ]
    boxes = list(dict.fromkeys(box for box in firsts if box is not None))[:EXAMPLES_PER_IMAGE]
    return pixels_to_cxcywh(boxes, (image.height, image.width))


def _same_words(student: Segmenter, teacher: Segmenter, phrases: Sequence[str]) -> bool:
    ours, theirs = student.tokenizer(phrases), teacher.tokenizer(phrases)
    length = min(ours.shape[1], theirs.shape[1])
    return bool((ours[:, :length] == theirs[:, :length]).all())
