"""The model that is imitated: frozen, in eval mode, fed as in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from conceptseg.checkpoints.fingerprint import model_fingerprint
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.data.batch import Batch
from conceptseg.hub import find_model
from conceptseg.images import stretched
from conceptseg.models.config import ModelConfig
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.detector import Detector, DetectorTrace, ImageFeatures
from conceptseg.models.prompts import PromptTokens
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.segmenter import Segmenter
from conceptseg.train.task import FrozenModule


class Teacher:
    """Answers a batch's questions; holds no state, and a copy of a task shares it."""

    def __init__(self, detector: Detector, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.fingerprint = model_fingerprint(detector)
        self.tokenizer = tokenizer
        self.config = config
        fast_on_cpu(detector)
        self._frozen = FrozenModule(detector)

    @classmethod
    def load(cls, name: str | Path) -> Teacher:
        """By name, path or repository, as `conceptseg.load`.

        Raises:
            ModelNotFoundError, CheckpointError: as there.
        """
        return cls(*load_checkpoint(find_model(name)))

    @classmethod
    def of(cls, segmenter: Segmenter) -> Teacher:
        """A model that is loaded already.

        Raises:
            OptionError: it was exported and can only be asked.
        """
        return cls(segmenter.detector, segmenter.tokenizer, segmenter.config)

    @property
    def resolution(self) -> int:
        return self.config.preprocessing.resolution

    def detector(self, device: torch.device | str) -> Detector:
        module = self._frozen.on(device)
        assert isinstance(module, Detector)
        return module

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """(I, 3, H, W) uint8, of any size."""
        given = self.config.preprocessing
        return self.detector(pixels.device).encode_images(
            normalised(pixels, given.resolution, given.mean, given.std)
        )

    @torch.no_grad()
    def encode_text(self, phrases: Sequence[str], device: torch.device) -> PromptTokens:
        """(T, B, D), T the teacher's own context length."""
        return self.detector(device).encode_text(self.tokenizer(phrases).to(device))

    @torch.no_grad()
    def answer(self, batch: Batch, image: ImageFeatures, words: PromptTokens) -> DetectorTrace:
        """Everything after the encoders, with every tensor between the parts."""
        detector = self.detector(batch.pixels.device)
        return detector.answer(image, words, batch.geometry, batch.image_index, batch.exemplar_index)

    def __deepcopy__(self, memo: dict[int, object]) -> Teacher:
        return self


def normalised(pixels: Tensor, resolution: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bring 8-bit images (I, 3, H, W) to a model's size and scale, exactly as `images.model_input` does."""
    if pixels.shape[-2:] != (resolution, resolution):
        pixels = stretched(pixels, resolution)
    centre, scale = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (mean, std))
    scaled = (pixels.float() / 255 - centre) / scale
    return scaled.contiguous(memory_format=torch.channels_last)
