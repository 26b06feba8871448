"""Regions and prompts compared: the part of the training task that only training needs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.data.batch import RegionPhrases
from conceptseg.losses.regions import region_features, region_loss
from conceptseg.models.detector import Detector, ImageFeatures
from conceptseg.models.prompts import GeometricPrompt


class RegionAlignment(nn.Module):
    """Cosine of object features and pooled prompts, with a learned scale and bias."""

    def __init__(self, scale: float = 4.0) -> None:
        """Args:
        scale: what cosines are multiplied by at the start. The optimiser changes its logarithm by little more
            than the rate each step, so a short run ends near where it began.
        """
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, detector: Detector, image: ImageFeatures, regions: RegionPhrases) -> dict[str, Tensor]:
        """The loss of words and that of example boxes, on the level that the detector reads.

        Args:
            detector: whose text and exemplar encoders are aligned with its image features.
            image: of all images of the batch.
            regions: their objects, and what is true of them.
        """
        objects = region_features(image.levels[-1], regions.masks, regions.image_index)  # (O, D)
        words = detector.encode_text(regions.token_ids)
        count = regions.token_ids.shape[0]
        losses = {"region_words": self._loss(words.pooled(), objects, regions.truth[:count])}
        if len(regions.examples):
            boxes = regions.boxes_cxcywh[regions.examples][:, None]  # (E, 1, 4)
            labels = torch.ones_like(boxes[..., 0], dtype=torch.long)
            prompt = GeometricPrompt(boxes, labels, torch.zeros_like(labels, dtype=torch.bool))
            shown = detector.encode_exemplars(image, prompt, regions.image_index[regions.examples])
            losses["region_examples"] = self._loss(shown.pooled(), objects, regions.truth[count:])
        return losses

    def _loss(self, prompts: Tensor, objects: Tensor, truth: Tensor) -> Tensor:
        with torch.autocast(objects.device.type, enabled=False):
            cosine = F.normalize(prompts.float(), dim=-1) @ F.normalize(objects.float(), dim=-1).t()
            return region_loss(cosine * self.log_scale.exp() + self.bias, truth)
