"""What is learned: a task is a module that turns a batch into named losses. The loop knows nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conceptseg.data.batch import Batch
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.config import PreprocessingConfig
from conceptseg.models.detector import Detector, DetectorOutput, ImageFeatures
from conceptseg.models.prompts import join_prompts
from conceptseg.train.alignment import RegionAlignment


class DetectionTask(nn.Module):
    """Find what the prompt names: the whole detector against labelled scenes."""

    mean: Tensor  # (3, 1, 1), per channel
    std: Tensor

    def __init__(self, detector: Detector, loss: DetectionLoss, preprocessing: PreprocessingConfig) -> None:
        super().__init__()
        self.detector = detector
        self.loss = loss
        self.alignment = RegionAlignment()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        """Named losses, unweighted.

        Args:
            batch: on the device of the detector.
            num_boxes: scalar normaliser of box and mask losses.
        """
        image = self.encode_images(batch)
        losses: dict[str, Tensor] = {}
        if batch.phrases:
            losses.update(self.loss(self.detect(image, batch), batch.targets, num_boxes))
        if batch.regions is not None:
            losses.update(self.alignment(self.detector, image, batch.regions))
        return losses

    def use_one_to_many(self, used: bool) -> None:
        """Switch the auxiliary queries on or off, where the detector is built with them."""
        self.detector.decoder.one_to_many = used and self.detector.config.decoder.one_to_many

    def predict(self, batch: Batch) -> DetectorOutput:
        """The detector's answers to the batch's questions."""
        return self.detect(self.encode_images(batch), batch)

    def encode_images(self, batch: Batch) -> ImageFeatures:
        """Features of every image of the batch."""
        pixels = (batch.pixels.float() / 255 - self.mean) / self.std
        return self.detector.encode_images(pixels.contiguous(memory_format=torch.channels_last))

    def detect(self, image: ImageFeatures, batch: Batch) -> DetectorOutput:
        """The answers on encoded images; boxes may lie on another image than the one that is searched."""
        words = self.detector.encode_text(batch.token_ids)
        exemplars = self.detector.encode_exemplars(image, batch.geometry, batch.exemplar_index)
        return self.detector.detect(image, batch.image_index, join_prompts(words, exemplars))
