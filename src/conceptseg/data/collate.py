"""Images, their objects and questions -> one batch, padded so that it is a set of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conceptseg.data.batch import Batch, Question
from conceptseg.losses.targets import Targets
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.models.text.tokenizer import Tokenizer


@dataclass
class PreparedImage:
    """An image as the model reads it, and its O objects, which questions name by their number."""

    pixels: Tensor  # (3, R, R) uint8
    boxes_xyxy: Tensor  # (O, 4) float, in the units of `size_hw`
    size_hw: tuple[float, float]  # of the picture that boxes are given on; also those of questions
    masks: Tensor  # (O, h, w) bool
    has_mask: Tensor  # (O,) bool; False where only the box is known


def collate_images(
    images: Sequence[PreparedImage], questions: Sequence[Question], tokenizer: Tokenizer
) -> Batch:
    """Pad images and questions into one batch; all images and all masks have one size."""
    pairs = len(questions)
    boxes_count = max([1, *(len(q.boxes_xyxy) for q in questions)])
    slots = max([1, *(len(q.objects) for q in questions)])
    boxes = torch.zeros(pairs, boxes_count, 4)
    labels = torch.zeros(pairs, boxes_count, dtype=torch.long)
    padding = torch.ones(pairs, boxes_count, dtype=torch.bool)
    target_boxes = torch.zeros(pairs, slots, 4)
    valid = torch.zeros(pairs, slots, dtype=torch.bool)
    has_mask = torch.zeros(pairs, slots, dtype=torch.bool)
    size = images[0].masks.shape[-2:]
    masks = torch.zeros(pairs, slots, *size, dtype=torch.bool)
    semantic = torch.zeros(pairs, *size, dtype=torch.bool)
    for b, q in enumerate(questions):
        if q.boxes_xyxy:
            count = len(q.boxes_xyxy)
            boxes[b, :count] = pixels_to_cxcywh(q.boxes_xyxy, images[q.exemplar_image].size_hw)
            labels[b, :count] = torch.tensor(q.labels)
            padding[b, :count] = False
        if q.objects:
            count, image = len(q.objects), images[q.image]
            objects = torch.tensor(q.objects)
            target_boxes[b, :count] = pixels_to_cxcywh(image.boxes_xyxy[objects], image.size_hw)
            valid[b, :count] = True
            masks[b, :count] = image.masks[objects]
            has_mask[b, :count] = image.has_mask[objects]
            if image.has_mask[objects].all():  # else the union would teach the others as background
                semantic[b] = image.masks[objects].any(0)
    return Batch(
        pixels=torch.stack([image.pixels for image in images]),
        phrases=[q.phrase for q in questions],
        token_ids=tokenizer([q.phrase for q in questions]),
        geometry=GeometricPrompt(boxes, labels, padding),
        image_index=torch.tensor([q.image for q in questions], dtype=torch.long),
        exemplar_index=torch.tensor([q.exemplar_image for q in questions], dtype=torch.long),
        targets=Targets(
            boxes_cxcywh=target_boxes,
            valid=valid,
            present=valid.any(1),
            masks=masks if has_mask.any() else None,
            has_mask=has_mask,
            semantic=semantic if has_mask.any() else None,
        ),
    )
