"""What is learned: a task turns a batch into named losses, and the loop does the rest.

Task           what every task has: the detector, which parts of it train, and what changes from step to step
DetectionTask  find what the prompt names
SceneTask      the same on scenes, whose objects are also compared with the words that are true of them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from conceptseg.data.batch import Batch
from conceptseg.data.scene_batches import SceneDataConfig
from conceptseg.errors import ConfigError
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.models.config import PreprocessingConfig
from conceptseg.models.detector import Detector, DetectorTrace, ImageFeatures
from conceptseg.train.alignment import RegionAlignment


class Task(nn.Module):
    """A detector and what it is taught; a task of one's own writes `forward`, and what else differs.

    Whatever does not train stays in eval mode, whatever `train()` says: dropout is off, batch norm keeps its
    statistics. A module that is only read, as a teacher is, is better held in a `FrozenModule`: then it is in
    no checkpoint and no average either.
    """

    mean: Tensor  # (3, 1, 1), per channel
    std: Tensor

    def __init__(self, detector: Detector, preprocessing: PreprocessingConfig) -> None:
        super().__init__()
        self.detector = detector
        self._batch_norm_rests = False
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        """Named losses, unweighted.

        Args:
            batch: on the device of the detector.
            num_boxes: scalar normaliser of box and mask losses, the same in all processes of a step.
        """
        raise NotImplementedError

    def loss_weights(self, step: int) -> Mapping[str, float]:
        """What each named loss counts in the total at a step, counted from 0."""
        raise NotImplementedError

    def begin_step(self, step: int) -> None:
        """Switch what differs between stages; called before each step's forward pass."""

    def rate(self, step: int) -> float:
        """Factor on the learning rate, beside the schedule's."""
        return 1.0

    def train_only(self, parts: Sequence[str]) -> None:
        """Freeze all of the detector but these parts.

        Args:
            parts: dotted names of its modules or parameters: "decoder.presence_head", "mask_head".

        Raises:
            ConfigError: a name that the detector does not have.
        """
        self.detector.requires_grad_(False)
        for parameter in self._parameters_of(parts, "trainable"):
            parameter.requires_grad_(True)

    def freeze(self, parts: Sequence[str]) -> None:
        """Leave these parts as they are.

        Args:
            parts: dotted names, as of `train_only`.

        Raises:
            ConfigError: a name that the detector does not have.
        """
        for parameter in self._parameters_of(parts, "frozen"):
            parameter.requires_grad_(False)

    def _parameters_of(self, parts: Sequence[str], entry: str) -> list[nn.Parameter]:
        found: list[nn.Parameter] = []
        for part in parts:
            own = [p for name, p in self.detector.named_parameters() if in_part(name, part)]
            if not own:
                known = ", ".join(name for name, _ in self.detector.named_children())
                raise ConfigError(
                    f"{entry} names {part!r}, which this model does not have; its parts: {known}"
                )
            found += own
        return found

    def use_one_to_many(self, used: bool) -> None:
        """Switch the auxiliary queries on or off, where the detector is built with them."""
        self.detector.decoder.one_to_many = used and self.detector.config.decoder.one_to_many

    def rest_batch_norm(self) -> None:
        """Let batch norm keep its statistics from now on, though its scales and offsets train.

        A few images say little about means and variances, least of all where some are dark and others bright:
        what is normalised by a batch in training and by running statistics in use gets better in the one and
        worse in the other. A batch in parts, or in several processes, is then the same step, too.
        """
        self._batch_norm_rests = True

    def train(self, mode: bool = True) -> Task:
        super().train(mode)
        if mode:
            _rest(self)
        if mode and self._batch_norm_rests:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def encode_images(self, batch: Batch) -> ImageFeatures:
        """Features of every image of the batch."""
        pixels = (batch.pixels.float() / 255 - self.mean) / self.std
        return self.detector.encode_images(pixels.contiguous(memory_format=torch.channels_last))

    def ask(self, image: ImageFeatures, batch: Batch) -> DetectorTrace:
        """The answers on encoded images; boxes may lie on another image than the one that is searched."""
        words = self.detector.encode_text(batch.token_ids)
        return self.detector.answer(image, words, batch.geometry, batch.image_index, batch.exemplar_index)

    def predict(self, batch: Batch) -> DetectorTrace:
        """The detector's answers to the batch's questions."""
        return self.ask(self.encode_images(batch), batch)


class DetectionTask(Task):
    """Find what the prompt names: the detector against labelled objects."""

    def __init__(
        self,
        detector: Detector,
        loss: DetectionLoss,
        preprocessing: PreprocessingConfig,
        weights: LossWeights | None = None,
    ) -> None:
        super().__init__(detector, preprocessing)
        self.loss = loss
        self.weights = weights or LossWeights()

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        return self.losses(self.encode_images(batch), batch, num_boxes)

    def losses(self, image: ImageFeatures, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        """The losses of the batch's questions; none where it asks nothing."""
        if not batch.phrases:
            return {}
        return self.loss(self.ask(image, batch), batch.targets, num_boxes)

    def loss_weights(self, step: int) -> Mapping[str, float]:
        return self.weights.by_name()


class SceneTask(DetectionTask):
    """Find what the prompt names in scenes, stage by stage."""

    def __init__(
        self,
        detector: Detector,
        loss: DetectionLoss,
        preprocessing: PreprocessingConfig,
        weights: LossWeights | None = None,
        data: SceneDataConfig | None = None,
        region_scale: float = 4.0,
    ) -> None:
        super().__init__(detector, loss, preprocessing, weights)
        self.data = data or SceneDataConfig()
        self.alignment = RegionAlignment(region_scale)

    def losses(self, image: ImageFeatures, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        losses = super().losses(image, batch, num_boxes)
        if batch.regions is not None:
            losses.update(self.alignment(self.detector, image, batch.regions))
        return losses

    def begin_step(self, step: int) -> None:
        self.use_one_to_many(self.data.stage_of(step)[0].one_to_many)

    def rate(self, step: int) -> float:
        return self.data.stage_of(step)[0].rate


class FrozenModule:
    """A module that is only read; not a `nn.Module`, so that a task neither trains nor saves it."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval().requires_grad_(False)

    def on(self, device: torch.device | str) -> nn.Module:
        """The module, in eval mode, on a device."""
        return self._module.to(device)

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenModule:
        """Itself: averaging copies a task, and what never changes needs no copy."""
        return self


def in_part(name: str, part: str) -> bool:
    """Whether a dotted name is a part's own or lies inside it."""
    return name == part or name.startswith(f"{part}.")


def _rest(module: nn.Module) -> None:
    """Put every module all of whose weights are frozen into eval mode."""
    weights = [parameter.requires_grad for parameter in module.parameters()]
    if weights and not any(weights):
        module.eval()
        return
    for child in module.children():
        _rest(child)
