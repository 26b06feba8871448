"""The four graphs of an ONNX folder: the network's own calls behind flat, batch-first inputs and outputs.

    pixels ──> vision ──> level_0, level_1, ... ─┬───────────> detector ──> class_logits, boxes_cxcywh, ...
    token_ids ──> text ──> tokens ───────────────│──┬─joined──>
    boxes ──> exemplar ──> tokens <──────────────┘  │
                               └────────────────────┘

Each wraps the detector in a module of its own; nothing of the detector is replaced. Joining the tokens of
words and of boxes is left to the caller: they are concatenated along the second axis, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from conceptseg.models.detector import Detector, ImageFeatures
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.models.prompts import GeometricPrompt, PromptTokens

# Axes whose length is open. The numbers are what graphs are traced with; two or more, because 1 is special to
# the tracer.
IMAGES, PROMPTS, BOXES, TOKENS = "images", "prompts", "boxes", "tokens"
TRACED = {IMAGES: 2, PROMPTS: 3, BOXES: 4, TOKENS: 5}


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph: its name, its axes by name or length, and what it holds."""

    name: str
    axes: tuple[str | int, ...]
    dtype: torch.dtype = torch.float32
    below: int = 2  # whole numbers go from 0 to this, exclusive

    def example(self, sizes: dict[str, int], generator: torch.Generator) -> Tensor:
        """Random values; indices of images stay within their number."""
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in self.axes]
        if self.name == "image_index":
            return torch.randint(0, sizes[IMAGES], shape, generator=generator)
        if self.name == "boxes_cxcywh":
            return torch.rand(shape, generator=generator) * 0.5 + 0.25
        if self.dtype == torch.bool:  # the first of every row is no padding
            padding = torch.rand(shape, generator=generator) < 0.3
            padding[:, 0] = False
            return padding
        if self.dtype == torch.long:
            return torch.randint(0, self.below, shape, generator=generator)
        return torch.randn(shape, generator=generator)


class Graph(nn.Module):
    """A part of a detector as it is exported; `inputs` describes the arguments of `forward`, in order."""

    name: str
    inputs: list[GraphInput]
    outputs: list[str]

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def examples(self, seed: int = 0, **sizes: int) -> list[Tensor]:
        """Random arguments, with the sizes of the trace unless others are given."""
        generator = torch.Generator().manual_seed(seed)
        return [value.example({**TRACED, **sizes}, generator) for value in self.inputs]


class VisionGraph(Graph):
    """Normalised pixels (I, 3, R, R) -> feature levels, finest first, each (I, D, h, w)."""

    name = "vision"

    def __init__(self, detector: Detector, resolution: int) -> None:
        super().__init__(detector)
        self.inputs = [GraphInput("pixels", (IMAGES, 3, resolution, resolution))]
        self.outputs = [f"level_{i}" for i in range(detector.neck.levels)]

    def forward(self, values: list[Tensor]) -> list[Tensor]:
        (pixels,) = values
        return self.detector.encode_images(pixels).levels


class TextGraph(Graph):
    """Token ids (B, T) -> tokens (B, T, D) and their padding (B, T)."""

    name = "text"
    outputs = ["tokens", "padding_mask"]

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector)
        text = detector.config.text
        self.inputs = [GraphInput("token_ids", (PROMPTS, text.context_length), torch.long, text.vocab_size)]

    def forward(self, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        (token_ids,) = values
        return _batch_first(self.detector.encode_text(token_ids))


class _OnFeatures(Graph):
    """A graph that reads feature levels; their position tables are constants in it."""

    def __init__(self, detector: Detector, levels_hw: dict[str, tuple[int, int]]) -> None:
        super().__init__(detector)
        width = detector.config.width
        self.levels = list(levels_hw)
        self.inputs = [GraphInput(name, (IMAGES, width, *hw)) for name, hw in levels_hw.items()]
        self.inputs.append(GraphInput("image_index", (PROMPTS,), torch.long))
        for name, (height, columns) in levels_hw.items():
            table = sine_of_map(height, columns, width, torch.device("cpu"))
            self.register_buffer(f"positions_of_{name}", table.clone())

    def _features(self, levels: list[Tensor]) -> ImageFeatures:
        positions = [cast(Tensor, getattr(self, f"positions_of_{name}")) for name in self.levels]
        return ImageFeatures(levels, positions, trunk=[])


class ExemplarGraph(_OnFeatures):
    """Boxes (B, M, 4) on the images -> tokens (B, M + 1, D) and their padding; reads the last level only."""

    name = "exemplar"
    outputs = ["tokens", "padding_mask"]

    def __init__(self, detector: Detector, levels_hw: dict[str, tuple[int, int]]) -> None:
        super().__init__(detector, dict(list(levels_hw.items())[-1:]))
        self.inputs += [
            GraphInput("boxes_cxcywh", (PROMPTS, BOXES, 4)),
            GraphInput("box_labels", (PROMPTS, BOXES), torch.long),
            GraphInput("box_padding", (PROMPTS, BOXES), torch.bool),
        ]

    def forward(self, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        *levels, image_index, boxes_cxcywh, box_labels, box_padding = values
        geometry = GeometricPrompt(boxes_cxcywh, box_labels, box_padding)
        return _batch_first(self.detector.encode_exemplars(self._features(levels), geometry, image_index))


class DetectorGraph(_OnFeatures):
    """Features and prompt tokens (B, S, D) -> the raw outputs of the last decoder layer, batch first."""

    name = "detector"
    outputs = ["class_logits", "boxes_cxcywh", "presence_logits", "mask_logits", "semantic_logits", "hidden"]

    def __init__(self, detector: Detector, levels_hw: dict[str, tuple[int, int]]) -> None:
        super().__init__(detector, levels_hw)
        self.inputs += [
            GraphInput("prompt_tokens", (PROMPTS, TOKENS, detector.config.width)),
            GraphInput("prompt_padding_mask", (PROMPTS, TOKENS), torch.bool),
        ]

    def forward(self, values: list[Tensor]) -> tuple[Tensor, ...]:
        *levels, image_index, prompt_tokens, prompt_padding_mask = values
        prompt = PromptTokens(prompt_tokens.transpose(0, 1), prompt_padding_mask)
        output = self.detector.raw(self._features(levels), image_index, prompt)
        return (
            output.class_logits[-1].t(),  # (B, N)
            output.boxes_cxcywh[-1].transpose(0, 1),  # (B, N, 4)
            output.presence_logits[-1],  # (B,)
            output.mask_logits,  # (B, N, h, w)
            output.semantic_logits,  # (B, 1, h, w)
            output.hidden.transpose(0, 1),  # (B, N, D)
        )


def _batch_first(prompt: PromptTokens) -> tuple[Tensor, Tensor]:
    return prompt.tokens.transpose(0, 1), prompt.padding_mask
