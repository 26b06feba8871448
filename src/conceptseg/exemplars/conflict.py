"""Do the exemplar encoder and the detector pull the vision encoder in opposite directions?

Both read its features: the exemplar encoder under the boxes, the rest everywhere. The detection loss of an
exemplar prompt has one gradient through each of the two; the cosine of the two gradients on the vision
encoder's weights is the conflict: -1 against each other, 0 unrelated, 1 together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject
from conceptseg.images import model_input
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.losses.targets import Targets
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.detector import ImageFeatures
from conceptseg.models.prompts import GeometricPrompt, join_prompts
from conceptseg.prompts import VISUAL
from conceptseg.segmenter import Segmenter

MASK_SIDE = 96  # pixels per side of the masks that are compared


@dataclass(frozen=True)
class TwoGradients:
    """Of one example's detection loss, on the weights of the vision encoder that both ways reach; flat."""

    through_exemplar: Tensor
    through_detector: Tensor


def gradient_conflict(
    segmenter: Segmenter, images: Sequence[ShownImage], examples: Sequence[tuple[int, ShownObject]]
) -> list[dict[str, float]]:
    """One example box at a time: the cosine of the two gradients, and their lengths.

    Returns:
        For each example `cosine`, `through_exemplar` and `through_detector` (norms).

    Raises:
        OptionError: the model was loaded in bfloat16.
    """
    segmenter.trainable()  # refuses what has no gradients before anything is computed
    return [_compared(both_gradients(segmenter, images[number], it)) for number, it in examples]


def both_gradients(segmenter: Segmenter, image: ShownImage, it: ShownObject) -> TwoGradients:
    """The two gradients of one example box; the model stays as it is.

    Raises:
        OptionError: the model was loaded in bfloat16.
    """
    detector = segmenter.trainable()
    shared = [p for part in (detector.vision_encoder, detector.neck) for p in part.parameters()]
    asked = [parameter.requires_grad for parameter in shared]
    try:
        for parameter in shared:
            parameter.requires_grad_(True)
        return _one(segmenter, image, it, shared)
    finally:
        for parameter, before in zip(shared, asked, strict=True):
            parameter.requires_grad_(before)


def _compared(gradients: TwoGradients) -> dict[str, float]:
    one, other = gradients.through_exemplar, gradients.through_detector
    lengths = float(one.norm()), float(other.norm())
    cosine = float(F.cosine_similarity(other, one, dim=0)) if min(lengths) > 0 else math.nan
    return {"cosine": cosine, "through_exemplar": lengths[0], "through_detector": lengths[1]}


def _one(segmenter: Segmenter, image: ShownImage, it: ShownObject, shared: Sequence[Tensor]) -> TwoGradients:
    detector, device, config = segmenter.detector, segmenter.device, segmenter.config
    mean, std = config.preprocessing.mean, config.preprocessing.std
    with torch.enable_grad():
        pixels = model_input(image.pixels, segmenter.resolution, mean, std)[None].to(device)
        features = detector.encode_images(pixels)
        apart = [level.detach().requires_grad_() for level in features.levels]
        for_exemplars = features.levels[-1].detach().requires_grad_()
        index = torch.zeros(1, dtype=torch.long, device=device)
        prompt = GeometricPrompt(
            _normalised(image, [it]).to(device)[None], torch.ones(1, 1, dtype=torch.long, device=device)
        )
        shown = detector.encode_exemplars(
            ImageFeatures([for_exemplars], features.positions[-1:], []), prompt, index
        )
        words = detector.encode_text(segmenter.tokenizer([VISUAL]).to(device))
        output = detector.trace(
            ImageFeatures(apart, features.positions, []), index, join_prompts(words, shown)
        )
        losses = DetectionLoss()(output, _targets(image, it.concept).to(device))
        weights = LossWeights().by_name()
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        *by_detector, by_exemplar = torch.autograd.grad(total, [*apart, for_exemplars], allow_unused=True)
        used = [(level, g) for level, g in zip(features.levels, by_detector, strict=True) if g is not None]
        detector_side = torch.autograd.grad(
            [level for level, _ in used], shared, [g for _, g in used], retain_graph=True, allow_unused=True
        )
        exemplar_side = torch.autograd.grad(features.levels[-1], shared, by_exemplar, allow_unused=True)
    # Weights that only one side reaches are not shared.
    both = [
        (a.flatten(), b.flatten())
        for a, b in zip(detector_side, exemplar_side, strict=True)
        if a is not None and b is not None
    ]
    return TwoGradients(torch.cat([b for _, b in both]), torch.cat([a for a, _ in both]))


def _normalised(image: ShownImage, objects: Sequence[ShownObject]) -> Tensor:
    return pixels_to_cxcywh([it.box_xyxy for it in objects], image.pixels.shape[:2])


def _targets(image: ShownImage, concept: str) -> Targets:
    """All objects of a concept as the training loss takes them."""
    objects = image.of(concept)
    valid = torch.ones(1, len(objects), dtype=torch.bool)
    masks = None
    if all(it.mask is not None for it in objects):
        full = torch.stack([torch.from_numpy(it.mask) for it in objects])[None].float()  # (1, G, H, W)
        masks = F.interpolate(full, (MASK_SIDE, MASK_SIDE), mode="area") > 0.5
    known = valid if masks is not None else ~valid
    return Targets(_normalised(image, objects)[None], valid, valid.any(1), masks, known)
