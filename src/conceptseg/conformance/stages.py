"""Every stage from pixels to masks: what it is called, what it means, and the tensor that our network gives.

The names are the contract with ports; `STAGES` in the order in which the network computes them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptseg.conformance.kit import Stage
from conceptseg.images import load_image, model_input
from conceptseg.models.config import DetectorConfig, ModelConfig, ViTConfig
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.official_api import Sam3Processor
from conceptseg.segmenter import Segmenter

TOLERANCE = 3e-5  # of the root mean square; float32 in another order of operations differs by less than 1e-5
SCORE_TOLERANCE = 1e-3  # a sigmoid takes the absolute error of a logit for its relative one
MASK_TOLERANCE = 1e-3  # share of pixels; one whose logit is nearly zero may fall on either side
PROMPT = ("text", "exemplar")


@dataclass(frozen=True)
class Questions:
    """What every port is asked: B prompts on I images."""

    images: list[np.ndarray[Any, Any]]  # (H, W, 3) uint8, each of its own size
    phrases: list[str]  # B
    token_ids: Tensor  # (B, T) long, 0 = padding
    image_index: Tensor  # (B,) long
    boxes_cxcywh: Tensor  # (B, M, 4) in 0..1
    box_labels: Tensor  # (B, M) long, 1 like this, 0 not like this
    box_padding: Tensor  # (B, M) bool, True = padding

    def geometry(self) -> GeometricPrompt:
        return GeometricPrompt(self.boxes_cxcywh, self.box_labels, self.box_padding)


def stage_tensors(detector: Detector, config: ModelConfig, questions: Questions) -> dict[str, Tensor]:
    """Run a network on the questions and keep what every stage gives, padding masks too."""
    pre = config.preprocessing
    loaded = [load_image(image) for image in questions.images]
    pixels = torch.stack([model_input(image.pixels, pre.resolution, pre.mean, pre.std) for image in loaded])
    with torch.inference_mode(), _caught(detector) as caught:
        output = detector(pixels, questions.token_ids, questions.geometry(), questions.image_index)
        raw = output.raw()
    assert raw.pixels is not None and output.text is not None and output.exemplars is not None
    regions = torch.unflatten(caught["exemplar.regions"], 0, questions.box_padding.shape)  # (B, M, D, r, r)
    caught["exemplar.regions"] = regions.transpose(0, 1)
    tensors = {
        "pixels": pixels,
        **caught,
        "trunk": output.image.trunk[0],
        **{f"neck.{i}": level for i, level in enumerate(output.image.levels)},
        "text": output.text.tokens,
        "text.padding": output.text.padding_mask,
        "exemplar": output.exemplars.tokens,
        "exemplar.padding": output.exemplars.padding_mask,
        "box_padding": questions.box_padding,
        "memory": output.fusion.memory,
        "class": output.class_logits[-1],
        "presence": output.presence_logits[-1],
        "boxes": output.boxes_cxcywh[-1],
        "mask.pixels": raw.pixels,
        "masks": raw.mask_logits,
        "semantic": raw.semantic_logits,
    }
    for i, hidden in enumerate(output.decoded.hidden):
        tensors[f"decoder.layers.{i}.hidden"] = hidden
        tensors[f"decoder.layers.{i}.boxes"] = output.boxes_cxcywh[i]
        tensors[f"decoder.layers.{i}.presence"] = output.presence_logits[i]
    return tensors


def processor_tensors(segmenter: Segmenter, questions: Questions, threshold: float) -> dict[str, Tensor]:
    """What the official predictor makes of each prompt, asked call by call."""
    processor = Sam3Processor(segmenter, confidence_threshold=threshold)
    tensors = {}
    for pair, phrase in enumerate(questions.phrases):
        state = processor.set_image(questions.images[questions.image_index[pair]])
        state = processor.set_text_prompt(phrase, state)
        shown = ~questions.box_padding[pair]
        boxes, labels = questions.boxes_cxcywh[pair][shown], questions.box_labels[pair][shown]
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            state = processor.add_geometric_prompt(box, bool(label), state)
        tensors[f"result.{pair}.scores"] = state["scores"]
        tensors[f"result.{pair}.boxes"] = state["boxes"]
        tensors[f"result.{pair}.masks"] = state["masks"][:, 0]
    return tensors


def describe(config: DetectorConfig, tensors: dict[str, Tensor], pairs: int) -> list[Stage]:
    """The stages of a network in its order, with the shapes of their tensors."""
    return [
        Stage(
            name=name,
            shape=tuple(tensors[name].shape),
            layout=layout,
            meaning=meaning,
            reads=reads,
            tolerance=_tolerance(name, tensors[name]),
            padding=padding,
        )
        for name, layout, meaning, reads, padding in _rows(config, pairs)
    ]


def _tolerance(name: str, tensor: Tensor) -> float:
    if tensor.dtype == torch.bool:
        return MASK_TOLERANCE
    return SCORE_TOLERANCE if name.endswith(".scores") else TOLERANCE


_Row = tuple[str, str, str, tuple[str, ...], "str | None"]


def _rows(config: DetectorConfig, pairs: int) -> Iterator[_Row]:
    """Name, layout, meaning, what is read, and whose padding counts."""
    assert isinstance(config.vision, ViTConfig)
    levels = len(config.neck.scales) - config.neck.drop_last
    yield "pixels", "(I, 3, R, R)", "images stretched to a square as 8-bit numbers, then normalised", (), None
    before = "trunk.embedding"
    yield before, "(I, h, w, C)", "patches plus tiled positions, after the first norm", ("pixels",), None
    for i in range(config.vision.depth - 1):
        kind = "attention over the image" if i in config.vision.global_blocks else "attention in windows"
        yield f"trunk.blocks.{i}", "(I, h, w, C)", f"after block {i}: {kind}, feed-forward", (before,), None
        before = f"trunk.blocks.{i}"
    yield "trunk", "(I, C, h, w)", "the map after the last block", (before,), None
    for i in range(levels):
        yield f"neck.{i}", "(I, D, h, w)", f"level {i}, finest first", ("trunk",), None

    before = "text.embedding"
    yield before, "(T, B, C)", "tokens plus positions", (), "text.padding"
    for i in range(_text_blocks(config)):
        yield f"text.blocks.{i}", "(T, B, C)", f"after block {i}", (before,), "text.padding"
        before = f"text.blocks.{i}"
    yield "text", "(T, B, D)", "prompt tokens of the phrases", (before,), "text.padding"

    fine = f"neck.{levels - 1}"
    yield "exemplar.regions", "(M, B, D, r, r)", "what ROIAlign pools under each box", (fine,), "box_padding"
    before = "exemplar.input"
    meaning = "boxes, then the summary token, before the layers"
    yield before, "(M + 1, B, D)", meaning, ("exemplar.regions",), "exemplar.padding"
    for i in range(config.exemplar.layers):
        meaning = f"after exemplar layer {i}"
        yield f"exemplar.layers.{i}", "(M + 1, B, D)", meaning, (before, fine), "exemplar.padding"
        before = f"exemplar.layers.{i}"
    yield "exemplar", "(M + 1, B, D)", "prompt tokens of boxes and summary", (before,), "exemplar.padding"

    before = fine
    for i in range(config.fusion.layers - 1):
        name = f"fusion.layers.{i}"
        yield name, "(HW, B, D)", f"image tokens after fusion layer {i}", (before, *PROMPT), None
        before = name
    yield "memory", "(HW, B, D)", "image tokens that have read the prompt", (before, *PROMPT), None

    state: tuple[str, ...] = ()
    for i in range(config.decoder.layers):
        hidden, boxes = f"decoder.layers.{i}.hidden", f"decoder.layers.{i}.boxes"
        yield (
            hidden,
            "(N, B, D)",
            f"normed queries after decoder layer {i}",
            ("memory", *PROMPT, *state),
            None,
        )
        yield boxes, "(N, B, 4)", f"boxes of layer {i}, cxcywh in 0..1", (hidden, *state[1:]), None
        reads = ("memory", *PROMPT, *state)
        yield f"decoder.layers.{i}.presence", "(B,)", f"presence logits of layer {i}", reads, None
        state = (hidden, boxes)
    last = f"decoder.layers.{config.decoder.layers - 1}"
    yield "presence", "(B,)", "presence logits, not clamped", (f"{last}.presence",), None
    yield "class", "(N, B)", "class logits, clamped to 12", (f"{last}.hidden", *PROMPT), None
    yield "boxes", "(N, B, 4)", "boxes, cxcywh in 0..1", (f"{last}.boxes",), None
    skips = tuple(f"neck.{i}" for i in range(levels - 1))
    yield "mask.pixels", "(B, D, h, w)", "decoded pixel features", ("memory", *PROMPT, *skips), None
    yield "masks", "(B, N, h, w)", "mask logits of every query", ("mask.pixels", f"{last}.hidden"), None
    yield "semantic", "(B, 1, h, w)", "semantic logits", ("mask.pixels",), None
    for pair in range(pairs):
        scores = f"result.{pair}.scores"
        meaning = f"class x presence above the threshold, prompt {pair}"
        yield scores, "(K,)", meaning, ("class", "presence"), None
        meaning = f"x0, y0, x1, y1 in pixels, prompt {pair}"
        yield f"result.{pair}.boxes", "(K, 4)", meaning, (scores, "boxes"), None
        meaning = f"logits resized to the image, then above 0, prompt {pair}"
        yield f"result.{pair}.masks", "(K, H, W)", meaning, (scores, "masks"), None


def _text_blocks(config: DetectorConfig) -> int:
    return config.text.depth + 2 * bool(getattr(config.text, "rep_mixer", False))


@contextlib.contextmanager
def _caught(detector: Detector) -> Iterator[dict[str, Tensor]]:
    """What passes between the layers inside the parts, by the name of its stage."""
    caught: dict[str, Tensor] = {}

    def keep(name: str, turned: bool = False) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, made: Any = None) -> None:
            value = given[0] if made is None else made
            caught[name] = value.transpose(0, 1) if turned else value

        return hook

    def blocks(part: str) -> list[nn.Module]:
        return list(detector.get_submodule(part).children())

    trunk, text, exemplar = detector.vision_encoder, detector.text_encoder, detector.exemplar_encoder
    handles = [
        trunk.get_submodule("norm_pre").register_forward_hook(keep("trunk.embedding")),
        text.blocks[0].register_forward_pre_hook(keep("text.embedding", True)),
        exemplar.get_submodule("box_features").register_forward_pre_hook(keep("exemplar.regions")),
        exemplar.get_submodule("input_norm").register_forward_hook(keep("exemplar.input")),
    ]
    for stage, part, turned in (
        ("trunk.blocks", "vision_encoder.blocks", False),
        ("text.blocks", "text_encoder.blocks", True),
        ("exemplar.layers", "exemplar_encoder.layers", True),
        ("fusion.layers", "fusion_encoder.layers", True),
    ):
        for i, block in enumerate(blocks(part)):
            handles.append(block.register_forward_hook(keep(f"{stage}.{i}", turned)))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
