"""The same random weights in `transformers`' Sam3Model and in our detector, and the prompts both are asked.

Sizes are tiny, but nothing is left out: windows that do not divide the grid of image tokens (10 = 2 x 4 + 2),
a position table that is tiled and cropped, a global block between windowed ones, a neck level that is thrown
away, and one stage of the pixel decoder that is never run. No parameter keeps the value it starts with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conceptseg.checkpoints.folder import assign_weights
from conceptseg.checkpoints.huggingface import from_huggingface
from conceptseg.checkpoints.huggingface_config import config_from_huggingface
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.build import build_detector
from conceptseg.models.detector import Detector, DetectorTrace
from conceptseg.models.prompts import GeometricPrompt

RESOLUTION = 140  # 10 x 10 patches of 14 pixels
CONTEXT = 8  # text tokens
VOCABULARY = 99
PADDING_LABEL = -10  # how `transformers` marks a box that is not there
VISUAL = (1, 42, 2)  # any phrase will do as the "visual" that stands for boxes without words


@dataclass
class Case:
    """One batch of prompts, as `transformers` takes them."""

    name: str
    phrases: list[tuple[int, ...]]  # token ids, at most CONTEXT of them
    boxes: list[list[tuple[float, float, float, float, int]]]  # cx, cy, w, h, label per box
    dummy_box: bool = (
        True  # give `transformers` a padded box where there is none, so that it runs the exemplar encoder
    )

    def token_ids(self) -> Tensor:
        return torch.tensor([[*phrase, *[0] * (CONTEXT - len(phrase))] for phrase in self.phrases])

    def padded_boxes(self) -> tuple[Tensor, Tensor] | None:
        """(B, M, 4) and (B, M), with the padding label where a prompt has fewer boxes than the longest."""
        most = max(max(len(boxes) for boxes in self.boxes), int(self.dummy_box))
        if most == 0:
            return None
        filler = (0.3, 0.6, 0.2, 0.1, PADDING_LABEL)
        rows = torch.tensor([[*boxes, *[filler] * (most - len(boxes))] for boxes in self.boxes])
        return rows[..., :4], rows[..., 4].long()

    def pixels(self) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        return torch.rand(len(self.phrases), 3, RESOLUTION, RESOLUTION, generator=generator) * 2 - 1


POSITIVE, OTHER_POSITIVE = (0.3, 0.4, 0.2, 0.3, 1), (0.62, 0.35, 0.31, 0.22, 1)
NEGATIVE, BEYOND_THE_EDGE = (0.7, 0.6, 0.15, 0.25, 0), (0.95, 0.1, 0.3, 0.3, 0)
WORDS, MORE_WORDS, MANY_WORDS = (1, 17, 2), (1, 5, 64, 33, 2), (1, 5, 64, 33, 71, 80, 12, 2)

CASES = {
    case.name: case
    for case in (
        Case("text, positive and negative boxes", [MORE_WORDS], [[POSITIVE, NEGATIVE, BEYOND_THE_EDGE]]),
        Case("boxes only", [VISUAL], [[POSITIVE, OTHER_POSITIVE]]),
        Case(
            "padded, ragged batch",
            [WORDS, MANY_WORDS, MORE_WORDS, VISUAL],
            [[POSITIVE, NEGATIVE, OTHER_POSITIVE], [], [BEYOND_THE_EDGE], [OTHER_POSITIVE, NEGATIVE]],
        ),
        Case("text only (one box labelled -10 for transformers)", [MORE_WORDS], [[]]),
    )
}
TEXT_ONLY_WITHOUT_DUMMY = Case("text only (no box for transformers)", [MORE_WORDS], [[]], dummy_box=False)


def tiny_config(vit_eps: float = 1e-5) -> Any:
    """A Sam3Config whose trunk has the official epsilon instead of `transformers`' own 1e-6."""
    from transformers import Sam3Config

    layers = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": RESOLUTION,
                "pretrain_image_size": 42,
                "window_size": 4,
                "global_attn_indexes": [1, 3],
                "layer_norm_eps": vit_eps,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[40, 40], [20, 20], [10, 10]],
        },
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            "projection_dim": 16,
            "hidden_act": "gelu",
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        geometry_encoder_config={**layers, "num_layers": 2},
        detr_encoder_config={**layers, "num_layers": 3},
        detr_decoder_config={**layers, "num_layers": 3, "num_queries": 9},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 4},
    )


def tiny_pair(vit_eps: float = 1e-5, seed: int = 0) -> tuple[Any, Detector]:
    """(transformers' model, ours) with equal, fully random weights, in eval mode."""
    from transformers import Sam3Model

    config = tiny_config(vit_eps)
    theirs = Sam3Model(config).eval()
    randomise(theirs, seed)
    with torch.device("meta"):
        ours = build_detector(config_from_huggingface(config.to_dict()))
    # Copies: what a test does to one model must not reach the other.
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    assign_weights(ours, from_huggingface(state), "transformers")
    return theirs, ours.eval()


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter and every stored buffer a random value."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        value.copy_(random_value(name, value.shape, generator))


def random_value(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A random tensor for a key of `transformers`' Sam3Model.

    Sizes keep activations near one, and attention sharp enough for every token and every position to matter.
    """
    tables = (
        "embedding.weight",
        "embed.weight",
        "embeddings",
        "reference_points.weight",
        "presence_token.weight",
    )
    sharpened = ("q_proj", "query_proj", "box_head.layer3", "presence_head.layer3")
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        fan_in = 1 if name.endswith(tables) else shape[1:].numel()
        gain = 3.0 if any(word in name for word in sharpened) else 1.0
        return noise.mul_(gain).mul_(fan_in**-0.5)
    return noise.mul_(0.3).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)


@torch.no_grad()
def run_transformers(model: Any, case: Case) -> dict[str, Tensor]:
    """Outputs by name, laid out as ours are."""
    token_ids, boxes = case.token_ids(), case.padded_boxes()
    with memory_of(model) as caught:
        output = model(
            pixel_values=case.pixels(),
            input_ids=token_ids,
            attention_mask=(token_ids != 0).long(),
            input_boxes=None if boxes is None else boxes[0],
            input_boxes_labels=None if boxes is None else boxes[1],
        )
    return theirs_by_name(output, caught[0])


def theirs_by_name(output: Any, memory: Tensor) -> dict[str, Tensor]:
    """What `transformers`' model gave, and what `memory_of` caught, laid out as `by_name` does ours."""
    return {
        "class logits": output.pred_logits.t(),
        "boxes": output.pred_boxes.transpose(0, 1),
        "presence logits": output.presence_logits[:, 0],
        "semantic logits": output.semantic_seg,
        "mask logits": output.pred_masks,
        "memory": memory.transpose(0, 1),
        "reference boxes": output.decoder_reference_boxes.transpose(1, 2),
    }


@torch.no_grad()
def run_ours(detector: Detector, case: Case) -> dict[str, Tensor]:
    boxes = case.padded_boxes()
    geometry = None
    if boxes is not None and any(case.boxes):
        padding = boxes[1] == PADDING_LABEL
        geometry = GeometricPrompt(boxes_cxcywh=boxes[0], box_labels=boxes[1], box_padding=padding)
    return by_name(detector(case.pixels(), case.token_ids(), geometry))


def by_name(output: DetectorTrace) -> dict[str, Tensor]:
    """What is compared, of the last layer."""
    return {
        "class logits": output.class_logits[-1],
        "boxes": cxcywh_to_xyxy(output.boxes_cxcywh[-1]),
        "presence logits": output.presence_logits[-1],
        "semantic logits": output.semantic_logits,
        "mask logits": output.mask_logits,
        "memory": output.fusion.memory,
        "reference boxes": output.decoded.reference_boxes,
    }


def differences(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, float]:
    """Maximum absolute difference of every output."""
    for name, value in theirs.items():
        assert value.shape == ours[name].shape, f"{name}: {tuple(value.shape)} and {tuple(ours[name].shape)}"
    return {name: float((value - ours[name]).abs().max()) for name, value in theirs.items()}


@contextmanager
def memory_of(model: Any) -> Iterator[list[Tensor]]:
    """Catch what the fusion encoder hands on."""
    caught: list[Tensor] = []
    hook = model.detr_encoder.register_forward_hook(lambda *call: caught.append(call[-1].last_hidden_state))
    try:
        yield caught
    finally:
        hook.remove()
