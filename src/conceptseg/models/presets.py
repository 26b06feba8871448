"""Sizes to start from: the released model, the embedded one, and its larger sibling."""

from __future__ import annotations

import dataclasses

from conceptseg.models.config import (
    ConvNetConfig,
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    NeckConfig,
    ScoringConfig,
    TextConfig,
)

NANO = DetectorConfig(
    width=128,
    vision=ConvNetConfig(),
    neck=NeckConfig(scales=(1.0, 1.0, 1.0), drop_last=1, per_level=True, normalise=True),
    text=TextConfig(
        vocab_size=1024, context_length=16, width=128, depth=3, heads=4, mlp_width=384, embedding_std=1.0
    ),
    exemplar=ExemplarConfig(layers=2, heads=4, mlp_width=384, dropout=0.0),
    fusion=FusionConfig(layers=3, heads=4, mlp_width=512, dropout=0.0),
    decoder=DecoderConfig(
        layers=3, heads=4, mlp_width=512, queries=100, reference_grid=True, ffn_float32=False, dropout=0.0
    ),
    scoring=ScoringConfig(mlp_width=256, dropout=0.0),
    mask_head=MaskHeadConfig(heads=4, upsampling_stages=1),
)

NANO_TEACHER = dataclasses.replace(
    NANO,
    width=192,
    vision=ConvNetConfig(stem_width=48, widths=(96, 192, 288, 384), blocks=(2, 3, 4, 2), pyramid_width=192),
    text=TextConfig(
        vocab_size=1024, context_length=16, width=192, depth=4, heads=6, mlp_width=768, embedding_std=1.0
    ),
    exemplar=ExemplarConfig(layers=3, heads=6, mlp_width=768, dropout=0.0),
    fusion=FusionConfig(layers=4, heads=6, mlp_width=768, dropout=0.0),
    decoder=DecoderConfig(
        layers=4, heads=6, mlp_width=768, queries=100, reference_grid=True, ffn_float32=False, dropout=0.0
    ),
    scoring=ScoringConfig(mlp_width=384, dropout=0.0),
    mask_head=MaskHeadConfig(heads=6, upsampling_stages=1),
)

PRESETS: dict[str, DetectorConfig] = {"sam3": DetectorConfig(), "nano": NANO, "nano-teacher": NANO_TEACHER}
