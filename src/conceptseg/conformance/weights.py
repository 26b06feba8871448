"""A tiny SAM 3 whose random weights let every mistake show.

Each part of the official network is there, and awkward: windows do not divide the grid of tokens, the
position table is tiled and cropped, one neck level is thrown away, one stage of the pixel decoder never runs.
No parameter keeps the value that it starts with.

What layer norms read is small (`STREAM`), so that their epsilon matters; attention is sharp, so that every
token and position does; some presence and class logits lie beyond the clamps.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from conceptseg.models.config import (
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    MobileClipTextConfig,
    ModelConfig,
    PreprocessingConfig,
    ScoringConfig,
    TextConfig,
    ViTConfig,
)
from conceptseg.models.detector import Detector
from conceptseg.models.layers.attention import Attention

STREAM = 0.03  # size of what is passed on between layers
RESOLUTION = 140  # 10 x 10 tokens of 14 pixels
CONTEXT = 12  # tokens of a phrase
VOCABULARY = 320
FURTHEST_PRESENCE = 11.0  # beyond the clamp at 10 that the official code writes and does not apply
FURTHEST_CLASS = 15.0  # beyond the clamp at 12

_CLIP = TextConfig(
    vocab_size=VOCABULARY, context_length=CONTEXT, width=128, depth=2, heads=2, mlp_width=96
)  # 64 channels a head, as the official layout implies
_MOBILECLIP = MobileClipTextConfig(
    vocab_size=VOCABULARY, context_length=CONTEXT, positions=20, width=128, depth=2, heads=2, mlp_width=96
)


def tiny_config(text: str = "clip") -> ModelConfig:
    """The network of a kit; `text` is the kind of its text encoder, "clip" or "mobileclip"."""
    architecture = DetectorConfig(
        width=32,
        vision=ViTConfig(
            width=64, depth=4, heads=4, mlp_width=96, window=4, global_blocks=(1, 3), position_grid=3
        ),
        text=_MOBILECLIP if text == "mobileclip" else _CLIP,
        exemplar=ExemplarConfig(layers=2, heads=4, mlp_width=48),
        fusion=FusionConfig(layers=2, heads=4, mlp_width=48),
        decoder=DecoderConfig(layers=3, queries=12, heads=4, mlp_width=48),
        scoring=ScoringConfig(mlp_width=48),
        mask_head=MaskHeadConfig(heads=4),
    )
    return ModelConfig(architecture=architecture, preprocessing=PreprocessingConfig(resolution=RESOLUTION))


# Name of a layer -> size of what it reads, and of what it gives. The first line that matches counts; all
# others read and give 1.
_SIZES: list[tuple[str, float, float]] = [
    (r"vision_encoder\.patch_embed", 0.6, STREAM),
    (r"neck\.branches\.0\.resample\.0", STREAM, 1.0),
    (r"neck\.branches\.0\.resample\.2", 0.6, STREAM),
    (r"neck\.", STREAM, STREAM),
    (r"text_encoder\.projection", 1.0, STREAM),
    (r"exemplar_encoder\.input_projection", 2.0, STREAM),
    (r"decoder\.layers\.\d+\.feed_forward\.linear1", STREAM, 1.0),
    # Attention of queries is alike; where it counts little, queries stay different.
    (r"decoder\.layers\.\d+\.(self_attention|image_attention|feed_forward)", 1.0, STREAM / 3),
    (r"decoder\.layers\.\d+\.prompt_attention", 1.0, STREAM / 2),
    (r"decoder\.reference_head\.layers\.1", 0.6, STREAM),
    (r"scoring\.prompt_mlp\.layers\.0", STREAM, 1.0),
    (r"scoring\.prompt_mlp\.layers\.1", 0.6, STREAM),
    (r"scoring\.prompt_projection", 0.5, 6.0),
    (r"mask_head\.convs", STREAM, STREAM),
    (r"mask_head\.(instance|semantic)_projection", STREAM, 2.0),
    (r"(out_proj|attention\.proj|linear2|mlp\.2)$", 0.6, STREAM),
]
# Norms that give the small stream; all others give 1.
_SMALL_NORMS = re.compile(
    r"vision_encoder\.norm_pre|exemplar_encoder\.(input|output)_norm|decoder\.layers\.|mask_head\.norms|mixer\.\w+_norm"
)
# What each attention reads as queries, keys and values, where that is not 1.
_READ: list[tuple[str, tuple[float, float, float]]] = [
    (r"exemplar_encoder\.layers\.\d+\.image_attention", (1.0, 1.0, STREAM)),
    (r"fusion_encoder\.layers\.\d+\.prompt_attention|mask_head\.prompt_attention", (1.0, STREAM, STREAM)),
    (r"decoder\.layers\.\d+\.image_attention", (STREAM, 1.0, STREAM)),
    (r"decoder\.layers\.", (STREAM, STREAM, STREAM)),
]
_SMALL_TABLES = re.compile(r"token_embedding|position_embedding|query_embedding|presence_token")
_SHARP = 2.0  # size of queries
_BIAS = 0.1  # beside what a layer makes of its input


@torch.no_grad()
def randomise(detector: Detector, seed: int) -> None:
    """Give every parameter and buffer of a detector its random value."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    done = set()
    for name, module in detector.named_modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)):
            gives = STREAM if _SMALL_NORMS.search(name) else 1.0
            module.weight.copy_(gives * (1 + 0.3 * noise(module.weight)))
            module.bias.copy_(_BIAS * gives * noise(module.bias))
            if isinstance(module, nn.BatchNorm2d):
                mean, variance = module.running_mean, module.running_var
                assert mean is not None and variance is not None
                mean.copy_(0.3 * STREAM * noise(mean))
                variance.copy_(STREAM**2 * (0.5 + noise(variance).abs()))
        elif isinstance(module, Attention):
            width = module.in_proj_weight.shape[1]
            reads = next((sizes for pattern, sizes in _READ if re.search(pattern, name)), (1.0, 1.0, 1.0))
            rows = torch.tensor([_SHARP / reads[0], 1 / reads[1], 1 / reads[2]]).repeat_interleave(width)
            module.in_proj_weight.copy_(rows[:, None] * width**-0.5 * noise(module.in_proj_weight))
            module.in_proj_bias.copy_(_BIAS * noise(module.in_proj_bias))
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            found = (sizes for pattern, *sizes in _SIZES if re.search(pattern, name))
            read, gives = next(found, (1.0, 1.0))
            inputs = (
                module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            )
            module.weight.copy_(gives / read * inputs**-0.5 * noise(module.weight))
            if module.bias is not None:
                module.bias.copy_(_BIAS * gives * noise(module.bias))
        else:
            continue
        done |= {f"{name}.{key}" for key in module.state_dict()}
    for name, value in detector.state_dict().items():
        if name not in done and value.is_floating_point():
            size = STREAM if _SMALL_TABLES.search(name) else 1.0
            if name.endswith("reference_points"):
                size = 3.5  # some boxes so near 0 or 1 that the epsilon of the inverse sigmoid matters
            value.copy_(size * noise(value))


@torch.no_grad()
def spread_logits(detector: Detector, presence_logits: Tensor, class_logits: Tensor) -> None:
    """Change the last layers so that some presence and class logits lie beyond the clamps.

    Args:
        detector: whose heads are changed.
        presence_logits: (B,), what it gives so far.
        class_logits: (N, B), likewise.
    """
    last = detector.decoder.presence_head.mlp.layers[-1]
    assert isinstance(last, nn.Linear)
    shift = presence_logits.mean()
    factor = FURTHEST_PRESENCE / (presence_logits - shift).abs().max()
    last.weight.mul_(factor)
    last.bias.sub_(shift).mul_(factor)
    for parameter in detector.scoring.query_projection.parameters():
        parameter.mul_(FURTHEST_CLASS / class_logits.abs().max())
