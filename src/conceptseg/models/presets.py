"""Sizes to start from: the released model, the embedded one, its larger sibling, and students of both."""

from __future__ import annotations

import dataclasses

from conceptseg.models.config import (
    ConvNetConfig,
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    MobileClipTextConfig,
    NeckConfig,
    ScoringConfig,
    StudentConfig,
    TextConfig,
    ViTConfig,
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

# Of a student the encoders count; everything else is its teacher's. The trunk gives maps of 128 channels, as
# nano's does, so that nano's neck can be copied.
NANO_STUDENT = dataclasses.replace(
    NANO,
    vision=ConvNetConfig(stem_width=16, widths=(32, 64, 96, 128), blocks=(1, 1, 1, 1), pyramid_width=128),
    text=TextConfig(
        vocab_size=1024, context_length=16, width=64, depth=2, heads=4, mlp_width=256, embedding_std=1.0
    ),
)

SAM3 = DetectorConfig()
# The published fully light models of EfficientSAM3, and a trunk of ViT-B's size, which is reported to keep
# most of the teacher's quality where tiny trunks level off.
SAM3_STUDENTS = {
    "sam3-repvit": dataclasses.replace(
        SAM3, vision=StudentConfig(backbone="repvit_m1_1"), text=MobileClipTextConfig()
    ),
    "sam3-tinyvit": dataclasses.replace(
        SAM3, vision=StudentConfig(backbone="tinyvit_11m"), text=MobileClipTextConfig()
    ),
    "sam3-efficientvit": dataclasses.replace(
        SAM3, vision=StudentConfig(backbone="efficientvit_b1"), text=MobileClipTextConfig()
    ),
    # Half of the teacher's blocks, those that attend over the whole image among them, as DART publishes
    # (arXiv:2603.11441). The recipe `sam3-half` says which, and copies their weights.
    "sam3-half": dataclasses.replace(SAM3, vision=ViTConfig(depth=16, global_blocks=(6, 11, 13, 15))),
    "sam3-vit-b": dataclasses.replace(
        SAM3,
        vision=ViTConfig(width=768, depth=12, heads=12, mlp_width=3072, global_blocks=(2, 5, 8, 11)),
        text=MobileClipTextConfig(),
    ),
}

PRESETS: dict[str, DetectorConfig] = {
    "sam3": SAM3,
    **SAM3_STUDENTS,
    "nano": NANO,
    "nano-teacher": NANO_TEACHER,
    "nano-student": NANO_STUDENT,
}
