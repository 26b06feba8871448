"""Align: find what example boxes mean, while their tokens are drawn towards the image features under them.

The alignment can stand beside any detection loss: `ExemplarAlignment` holds the losses and their schedule,
and `AlignTask` is the detection task with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from conceptseg.data.batch import Batch
from conceptseg.data.encoded_batch import EncodedBatch
from conceptseg.losses.alignment import AlignmentConfig, AlignmentLoss
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.models.config import PreprocessingConfig
from conceptseg.models.detector import Detector, DetectorOutput, DetectorTrace, ImageFeatures
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.train.phases import PROGRESSIVE, AlignmentPhase, phase_at
from conceptseg.train.task import DetectionTask


class ExemplarAlignment(nn.Module):
    """The alignment losses, and how they are weighed at each step of a run."""

    def __init__(
        self,
        width: int,
        config: AlignmentConfig | None = None,
        phases: tuple[AlignmentPhase, ...] = PROGRESSIVE,
        steps: int = 1,
        teacher_width: int | None = None,
    ) -> None:
        super().__init__()
        self.loss = AlignmentLoss(width, config, teacher_width)
        self.phases = phases
        self.steps = steps

    def forward(self, output: DetectorTrace, batch: Batch) -> dict[str, Tensor]:
        """Named losses, unweighted: tokens of the batch's boxes against the images that they lie on."""
        geometry = batch.geometry
        assert geometry.boxes_cxcywh is not None and geometry.box_padding is not None
        assert output.exemplars is not None  # of `Detector.answer`
        boxes = output.exemplars.tokens[:-1]  # (M, B, D), without the closing token
        return self.loss(
            boxes,
            geometry.boxes_cxcywh,
            geometry.box_padding,
            output.image.levels[-1],
            batch.exemplar_index,
            batch.taught if isinstance(batch, EncodedBatch) else None,
        )

    def phase(self, step: int) -> AlignmentPhase:
        """Of a step, counted from 0; it depends on nothing else, so a resumed run goes on in its phase."""
        return phase_at(step / self.steps, self.phases)

    def weights(self, step: int) -> dict[str, float]:
        """What each named loss counts."""
        return dict.fromkeys(self.loss.config.names, self.phase(step).weight)


class AlignTask(DetectionTask):
    """The detector against labelled objects, and its exemplars against the image."""

    def __init__(
        self,
        detector: Detector,
        loss: DetectionLoss,
        preprocessing: PreprocessingConfig,
        weights: LossWeights,
        alignment: ExemplarAlignment,
    ) -> None:
        super().__init__(detector, loss, preprocessing, weights)
        self.alignment = alignment

    def encode_images(self, batch: Batch) -> ImageFeatures:
        """Features of every image of the batch; kept ones where the batch brings them."""
        if not isinstance(batch, EncodedBatch) or batch.levels is None:
            return super().encode_images(batch)
        levels = list(batch.levels)
        width = self.detector.config.width
        positions = [sine_of_map(level.shape[2], level.shape[3], width, level.device) for level in levels]
        return ImageFeatures(levels, positions, trunk=[])

    def losses(self, image: ImageFeatures, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        return self.answer(image, batch, num_boxes)[0]

    def answer(
        self, image: ImageFeatures, batch: Batch, num_boxes: Tensor
    ) -> tuple[dict[str, Tensor], DetectorOutput]:
        """The losses, and the answers that they judge."""
        output = self.ask(image, batch)
        losses = self.loss(output, batch.targets, num_boxes)
        return {**losses, **self.alignment(output, batch)}, output

    def loss_weights(self, step: int) -> Mapping[str, float]:
        return {**super().loss_weights(step), **self.alignment.weights(step)}

    def rate(self, step: int) -> float:
        return self.alignment.phase(step).rate
