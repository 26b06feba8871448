"""What a student learns: one task per stage, for the common training loop.

EncoderDistillation   stage 1: encoders apart; the rest is the teacher's and stays it
FusionDistillation    stage 2: every tensor from the memory to the masks, on the same prompts
LabelledDistillation  stage 3: the same, and what labels say

Teacher and student see the same 8-bit image, each resized and normalised as it is in use.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.distil.batch import DistilBatch
from conceptseg.distil.recipe import DistilWeights
from conceptseg.distil.teacher import Teacher, normalised
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.losses.distillation import (
    best_queries,
    distil_boxes,
    distil_classes,
    distil_masks,
    distil_presence,
    feature_losses,
    map_losses,
)
from conceptseg.models.config import PreprocessingConfig
from conceptseg.models.detector import Detector, DetectorTrace, ImageFeatures
from conceptseg.models.fusion_encoder import FusionOutput
from conceptseg.models.prompts import PromptTokens
from conceptseg.train.exemplar_alignment import ExemplarAlignment
from conceptseg.train.task import Task


class EncoderDistillation(Task):
    """Give the teacher's features: of the image after the neck, and of every word."""

    def __init__(
        self, detector: Detector, teacher: Teacher, preprocessing: PreprocessingConfig, weights: DistilWeights
    ) -> None:
        super().__init__(detector, preprocessing)
        self.teacher = teacher
        self.preprocessing = preprocessing
        self.weights = weights

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        image = self.encode_images(batch)
        cached = batch.teacher_levels if isinstance(batch, DistilBatch) else None
        levels = self.teacher.encode_images(batch.pixels).levels if cached is None else cached
        losses = vision_losses(image.levels, levels)
        if batch.phrases:
            words = self.detector.encode_text(batch.token_ids)
            theirs = self.teacher.encode_text(batch.phrases, batch.pixels.device)
            losses.update(text_losses(words, theirs))
        return self.weighed(losses)

    def loss_weights(self, step: int) -> Mapping[str, float]:
        return vars(self.weights)

    def weighed(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Only the losses that count."""
        weights = self.loss_weights(0)
        return {name: value for name, value in losses.items() if weights[name]}

    def encode_images(self, batch: Batch) -> ImageFeatures:
        given = self.preprocessing
        return self.detector.encode_images(normalised(batch.pixels, given.resolution, given.mean, given.std))


class FusionDistillation(EncoderDistillation):
    """Answer as the teacher does, on phrases that are there and not there, by words and by examples."""

    def __init__(
        self,
        detector: Detector,
        teacher: Teacher,
        preprocessing: PreprocessingConfig,
        weights: DistilWeights,
        masks: int = 8,
        alignment: ExemplarAlignment | None = None,
    ) -> None:
        super().__init__(detector, teacher, preprocessing, weights)
        self.masks = masks
        self.alignment = alignment

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        losses, _ = self.compared(batch)
        return self.weighed(losses)

    def loss_weights(self, step: int) -> Mapping[str, float]:
        aligned = {} if self.alignment is None else self.alignment.weights(step)
        return {**super().loss_weights(step), **aligned}

    def rate(self, step: int) -> float:
        return 1.0 if self.alignment is None else self.alignment.phase(step).rate

    def compared(self, batch: Batch) -> tuple[dict[str, Tensor], DetectorTrace]:
        """The losses against the teacher, and the student's answers."""
        image, theirs = self.encode_images(batch), self.teacher.encode_images(batch.pixels)
        words = self.detector.encode_text(batch.token_ids)
        their_words = self.teacher.encode_text(batch.phrases, batch.pixels.device)
        student = self.detector.answer(image, words, batch.geometry, batch.image_index, batch.exemplar_index)
        teacher = self.teacher.answer(batch, theirs, their_words)
        losses = {**vision_losses(image.levels, theirs.levels), **text_losses(words, their_words)}
        losses.update(fusion_losses(student, teacher))
        if self.alignment is not None:
            losses.update(self.alignment(student, batch))
        losses.update(mask_losses(student, teacher, self.masks))
        return losses, student


class LabelledDistillation(FusionDistillation):
    """Answer as the teacher does, and as the labels say."""

    def __init__(
        self,
        detector: Detector,
        teacher: Teacher,
        preprocessing: PreprocessingConfig,
        weights: DistilWeights,
        masks: int,
        loss: DetectionLoss,
        labels: LossWeights,
        labels_share: float,
        alignment: ExemplarAlignment | None = None,
    ) -> None:
        super().__init__(detector, teacher, preprocessing, weights, masks, alignment)
        self.loss = loss
        self._labels = {f"label_{name}": labels_share * value for name, value in labels.by_name().items()}

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        losses, output = self.compared(batch)
        labelled = self.loss(output, batch.targets, num_boxes, dense=False)
        losses.update({f"label_{name}": value for name, value in labelled.items()})
        return self.weighed(losses)

    def loss_weights(self, step: int) -> Mapping[str, float]:
        return {**super().loss_weights(step), **self._labels}


def vision_losses(student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
    """Mean over levels; where there are fewer of one side, the coarsest ones correspond."""
    pairs = list(zip(student[::-1], teacher[::-1], strict=False))
    errors, cosines = zip(*(map_losses(ours, theirs) for ours, theirs in pairs), strict=True)
    return {"vision_mse": torch.stack(errors).mean(), "vision_cosine": torch.stack(cosines).mean()}


def text_losses(student: PromptTokens, teacher: PromptTokens) -> dict[str, Tensor]:
    """Token by token, padding left out; the shorter context decides how many."""
    length = min(len(student.tokens), len(teacher.tokens))
    padding = student.padding_mask[:, :length] | teacher.padding_mask[:, :length]  # (B, T)
    error, cosine = feature_losses(
        student.tokens[:length].transpose(0, 1), teacher.tokens[:length].transpose(0, 1), padding
    )
    return {"text_mse": error, "text_cosine": cosine}


def fusion_losses(student: DetectorTrace, teacher: DetectorTrace) -> dict[str, Tensor]:
    """Memory, decoder states, boxes, class and presence logits; queries correspond by index."""
    memory = map_losses(_memory_map(student.fusion), _memory_map(teacher.fusion))
    hidden = feature_losses(student.decoded.hidden, teacher.decoded.hidden)
    meant = teacher.class_logits[-1].float().sigmoid()  # (N, B)
    boxes = distil_boxes(student.boxes_cxcywh, teacher.boxes_cxcywh, meant)
    return {
        "memory_mse": memory[0],
        "memory_cosine": memory[1],
        "hidden_mse": hidden[0],
        "hidden_cosine": hidden[1],
        "box_l1": boxes[0],
        "box_giou": boxes[1],
        "classes": distil_classes(student.class_logits, teacher.class_logits),
        "presence": distil_presence(student.presence_logits, teacher.presence_logits),
    }


def mask_losses(student: DetectorTrace, teacher: DetectorTrace, count: int) -> dict[str, Tensor]:
    """Masks of the queries that the teacher means most."""
    index, scores = best_queries(teacher.class_logits[-1], count)  # (B, K)
    pairs = torch.arange(len(index), device=index.device).repeat_interleave(index.shape[1])
    ours = student.query_masks.matched(pairs, index.flatten())  # (B * K, h, w)
    with torch.no_grad():
        theirs = teacher.query_masks.matched(pairs, index.flatten())
    ours, theirs = (torch.unflatten(masks, 0, index.shape) for masks in (ours, theirs))  # (B, K, h, w)
    pixelwise, dice = distil_masks(ours, theirs, scores)
    return {"mask": pixelwise, "mask_dice": dice}


def _memory_map(fusion: FusionOutput) -> Tensor:
    """Memory of one level -> (B, D, H, W); of several levels (B, D, HW, 1), which must correspond."""
    sizes = fusion.spatial_shapes.tolist()
    size = tuple(sizes[0]) if len(sizes) == 1 else (len(fusion.memory), 1)
    return torch.unflatten(fusion.memory.permute(1, 2, 0), 2, size)
