"""The base of the encoders that take boxes and nothing else: all but the released form."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from conceptseg.errors import PromptError
from conceptseg.models.exemplar.box_embedding import BoxEmbedding
from conceptseg.models.exemplar.encoder import ExampleBoxes, ExemplarEncoder, ExemplarTrace, example_boxes
from conceptseg.models.prompts import GeometricPrompt


class BoxesOnlyEncoder(ExemplarEncoder):
    """Refuses points, which only the released form is trained with, and embeds boxes as that form does."""

    kind: ClassVar[str]  # its name in the config

    def __init__(self, width: int, roi_size: int) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.box_embedding = BoxEmbedding(width)

    def trace(
        self, features: Tensor, positions: Tensor, image_index: Tensor, prompt: GeometricPrompt | None
    ) -> ExemplarTrace:
        """As `ExemplarEncoder.trace`.

        Raises:
            PromptError: the prompt has points.
        """
        if prompt is not None and prompt.points_xy is not None:
            raise PromptError(f'exemplar encoder "{self.kind}" takes boxes only; points need kind "roi"')
        boxes = example_boxes(prompt, image_index.shape[0], features.device)
        return self.trace_boxes(features, positions, image_index, boxes)

    def trace_boxes(
        self, features: Tensor, positions: Tensor, image_index: Tensor, boxes: ExampleBoxes
    ) -> ExemplarTrace:
        """As `trace`, of boxes that are always there; M may be 0."""
        raise NotImplementedError
