"""Weights that are rounded once give what autocast gives, which rounds them every time."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from conceptseg.models.build import build_detector, build_vision_encoder
from conceptseg.models.config import (
    AdaptiveConfig,
    BridgeConfig,
    ExemplarConfig,
    MobileClipTextConfig,
    RoiTransformerConfig,
    StudentConfig,
    UnifiedConfig,
)
from conceptseg.models.cpu.rounding import is_rounded, roundable
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import GeometricPrompt
from tests.conftest import TINY as TINY_CONVNET
from tests.models.tiny import TINY, pixels, randomise, tiny_detector

EXEMPLARS = {
    config.kind: config
    for config in (ExemplarConfig, RoiTransformerConfig, UnifiedConfig, BridgeConfig, AdaptiveConfig)
}
BOXES = GeometricPrompt(torch.tensor([[[0.4, 0.5, 0.3, 0.4]]]), torch.tensor([[1]]))


def rounded(detector: Detector) -> Detector:
    """A copy whose weights are stored as a model loaded in bfloat16 has them."""
    copied = copy.deepcopy(detector)
    names = roundable(copied)
    for name, parameter in copied.named_parameters():
        if name in names:
            parameter.data = parameter.data.bfloat16()
    return copied


@torch.inference_mode()
def answers(detector: Detector, image: Tensor, ids: Tensor) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        output = detector(image, ids, BOXES)
        found = (output.class_logits, output.boxes_cxcywh, output.presence_logits, output.mask_logits)
    return [*found, output.semantic_logits]


@pytest.mark.parametrize("kind", sorted(EXEMPLARS))
@pytest.mark.parametrize("vision", ["vit", "convnet"])
def test_answers_equal_those_of_autocast_to_the_last_bit(vision: str, kind: str) -> None:
    base = TINY if vision == "vit" else TINY_CONVNET
    config = dataclasses.replace(base, exemplar=EXEMPLARS[kind](layers=1, heads=4, mlp_width=40, roi_size=3))
    detector = build_detector(config).eval()
    randomise(detector)
    image = torch.randn(1, 3, 96, 96) if vision == "convnet" else pixels()
    ids = torch.ones(1, config.text.context_length, dtype=torch.long)
    one, other = answers(detector, image, ids), answers(rounded(detector), image, ids)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("backbone", ["efficientvit_b0", "repvit_m0_9", "tinyvit_5m"])
def test_students_answer_alike(backbone: str) -> None:
    torch.manual_seed(0)
    encoder = build_vision_encoder(StudentConfig(backbone=backbone, head_width=16)).eval()  # type: ignore[arg-type]
    half = copy.deepcopy(encoder)
    names = roundable(half)
    for name, parameter in half.named_parameters():
        parameter.data = parameter.data.bfloat16() if name in names else parameter.data
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (one,), (other,) = encoder(image := torch.randn(1, 3, 64, 64)), half(image)
    assert names and torch.equal(one, other)


def test_the_text_encoder_of_students_is_rounded_alike() -> None:
    text = MobileClipTextConfig(vocab_size=60, context_length=8, width=24, depth=1, heads=2, mlp_width=40)
    detector = build_detector(dataclasses.replace(TINY, text=text)).eval()
    randomise(detector)
    ids = torch.tensor([[1, 17, 5, 2, 0, 0, 0, 0]])
    one, other = (answers(d, pixels(), ids) for d in (detector, rounded(detector)))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_norms_tables_heads_and_the_feed_forward_of_the_decoder_stay() -> None:
    detector = tiny_detector()
    names, modules = roundable(detector), dict(detector.named_modules())
    for name in names:
        module = modules[name.rpartition(".")[0]]
        assert not isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.Embedding))
    stay = ("position_embedding", "presence", "box_head", "box_bias", "scoring", "query_embedding")
    assert not any(word in name for name in names for word in stay)
    assert not any(name.startswith("decoder.layers.0.feed_forward") for name in names)
    assert {
        "vision_encoder.patch_embed.weight",
        "vision_encoder.blocks.0.attention.qkv.bias",
        "neck.branches.0.conv_3x3.weight",
        "fusion_encoder.layers.1.feed_forward.linear2.weight",
        "decoder.layers.0.image_attention.in_proj_weight",
        "mask_head.convs.0.weight",
    } <= names


def test_a_feed_forward_that_autocast_reaches_is_rounded() -> None:
    names = roundable(tiny_detector(decoder={"ffn_float32": False}))
    assert "decoder.layers.0.feed_forward.linear1.weight" in names


def test_a_network_says_whether_it_was_rounded() -> None:
    detector = tiny_detector()
    assert not is_rounded(detector) and is_rounded(rounded(detector))
