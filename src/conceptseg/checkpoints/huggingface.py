"""The layout of `transformers` (Sam3Model, Sam3Config): key table and config translation.

Left alone: the CLIP text projection, which nothing in the detector reads, and the tracker that lies beside
the detector in the released video files. Not there: the point projections of the exemplar encoder, which
`transformers` dropped; they become zeros, so that a point is no more than its label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from conceptseg.checkpoints.key_table import KeyTable, Rule, first_few, position_grid, rename, stack
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import (
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    FusionConfig,
    MaskHeadConfig,
    NeckConfig,
    ScoringConfig,
    TextConfig,
    ViTConfig,
)

QKV = ("q_proj", "k_proj", "v_proj")


def _attention(theirs: str, ours: str, out: str = "o_proj") -> tuple[Rule, ...]:
    return (
        stack(f"{theirs}.{{part}}.{{p}}", QKV, f"{ours}.in_proj_{{p}}"),
        rename(f"{theirs}.{out}.{{p}}", f"{ours}.out_proj.{{p}}"),
    )


def _feed_forward(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(f"{theirs}.mlp.fc1.{{p}}", f"{ours}.feed_forward.linear1.{{p}}"),
        rename(f"{theirs}.mlp.fc2.{{p}}", f"{ours}.feed_forward.linear2.{{p}}"),
    )


def _mlp(theirs: str, ours: str, depth: int) -> tuple[Rule, ...]:
    """Theirs count layers from one."""
    return tuple(rename(f"{theirs}.layer{n + 1}.{{p}}", f"{ours}.layers.{n}.{{p}}") for n in range(depth))


def _encoder_layer(theirs: str, ours: str, cross_attention: str) -> tuple[Rule, ...]:
    return (
        *_attention(f"{theirs}.self_attn", f"{ours}.self_attention"),
        *_attention(f"{theirs}.cross_attn", f"{ours}.{cross_attention}"),
        *_feed_forward(theirs, ours),
        rename(f"{theirs}.layer_norm1.{{p}}", f"{ours}.norm1.{{p}}"),
        rename(f"{theirs}.layer_norm2.{{p}}", f"{ours}.norm2.{{p}}"),
        rename(f"{theirs}.layer_norm3.{{p}}", f"{ours}.norm3.{{p}}"),
    )


VISION = (
    rename(
        "vision_encoder.backbone.embeddings.patch_embeddings.projection.weight",
        "vision_encoder.patch_embed.weight",
    ),
    position_grid(
        "vision_encoder.backbone.embeddings.position_embeddings", "vision_encoder.position_embedding"
    ),
    rename("vision_encoder.backbone.layer_norm.{p}", "vision_encoder.norm_pre.{p}"),
    rename("vision_encoder.backbone.layers.{i}.layer_norm1.{p}", "vision_encoder.blocks.{i}.norm1.{p}"),
    rename("vision_encoder.backbone.layers.{i}.layer_norm2.{p}", "vision_encoder.blocks.{i}.norm2.{p}"),
    stack(
        "vision_encoder.backbone.layers.{i}.attention.{part}.{p}",
        QKV,
        "vision_encoder.blocks.{i}.attention.qkv.{p}",
    ),
    rename(
        "vision_encoder.backbone.layers.{i}.attention.o_proj.{p}",
        "vision_encoder.blocks.{i}.attention.proj.{p}",
    ),
    rename("vision_encoder.backbone.layers.{i}.mlp.fc1.{p}", "vision_encoder.blocks.{i}.mlp.0.{p}"),
    rename("vision_encoder.backbone.layers.{i}.mlp.fc2.{p}", "vision_encoder.blocks.{i}.mlp.2.{p}"),
    # The first branch upsamples twice, with a GELU in between that has no weights.
    rename("vision_encoder.neck.fpn_layers.{i}.scale_layers.0.{p}", "neck.branches.{i}.resample.0.{p}"),
    rename("vision_encoder.neck.fpn_layers.{i}.scale_layers.2.{p}", "neck.branches.{i}.resample.2.{p}"),
    rename("vision_encoder.neck.fpn_layers.{i}.proj1.{p}", "neck.branches.{i}.conv_1x1.{p}"),
    rename("vision_encoder.neck.fpn_layers.{i}.proj2.{p}", "neck.branches.{i}.conv_3x3.{p}"),
)

_TEXT = "text_encoder.text_model"
TEXT = (
    rename(f"{_TEXT}.embeddings.token_embedding.weight", "text_encoder.token_embedding.weight"),
    rename(f"{_TEXT}.embeddings.position_embedding.weight", "text_encoder.position_embedding"),
    rename(f"{_TEXT}.encoder.layers.{{i}}.layer_norm1.{{p}}", "text_encoder.blocks.{i}.norm1.{p}"),
    rename(f"{_TEXT}.encoder.layers.{{i}}.layer_norm2.{{p}}", "text_encoder.blocks.{i}.norm2.{p}"),
    *_attention(
        f"{_TEXT}.encoder.layers.{{i}}.self_attn", "text_encoder.blocks.{i}.attention", out="out_proj"
    ),
    rename(f"{_TEXT}.encoder.layers.{{i}}.mlp.fc1.{{p}}", "text_encoder.blocks.{i}.mlp.0.{p}"),
    rename(f"{_TEXT}.encoder.layers.{{i}}.mlp.fc2.{{p}}", "text_encoder.blocks.{i}.mlp.2.{p}"),
    rename(f"{_TEXT}.final_layer_norm.{{p}}", "text_encoder.norm.{p}"),
    rename("text_projection.{p}", "text_encoder.projection.{p}"),
)

EXEMPLARS = (
    rename("geometry_encoder.label_embed.weight", "exemplar_encoder.label_embedding.weight"),
    rename("geometry_encoder.cls_embed.weight", "exemplar_encoder.summary_token"),
    rename("geometry_encoder.boxes_direct_project.{p}", "exemplar_encoder.box_coordinates.{p}"),
    rename("geometry_encoder.boxes_pool_project.{p}", "exemplar_encoder.box_features.{p}"),
    rename("geometry_encoder.boxes_pos_enc_project.{p}", "exemplar_encoder.box_position.{p}"),
    rename("geometry_encoder.vision_layer_norm.{p}", "exemplar_encoder.pooling_norm.{p}"),
    rename("geometry_encoder.final_proj.{p}", "exemplar_encoder.input_projection.{p}"),
    rename("geometry_encoder.prompt_layer_norm.{p}", "exemplar_encoder.input_norm.{p}"),
    *_encoder_layer("geometry_encoder.layers.{i}", "exemplar_encoder.layers.{i}", "image_attention"),
    rename("geometry_encoder.output_layer_norm.{p}", "exemplar_encoder.output_norm.{p}"),
)

FUSION = _encoder_layer("detr_encoder.layers.{i}", "fusion_encoder.layers.{i}", "prompt_attention")

DECODER = (
    rename("detr_decoder.query_embed.weight", "decoder.query_embedding"),
    rename("detr_decoder.reference_points.weight", "decoder.reference_points"),
    rename("detr_decoder.presence_token.weight", "decoder.presence_token"),
    *_attention("detr_decoder.layers.{i}.self_attn", "decoder.layers.{i}.self_attention"),
    rename("detr_decoder.layers.{i}.self_attn_layer_norm.{p}", "decoder.layers.{i}.self_norm.{p}"),
    *_attention("detr_decoder.layers.{i}.text_cross_attn", "decoder.layers.{i}.prompt_attention"),
    rename("detr_decoder.layers.{i}.text_cross_attn_layer_norm.{p}", "decoder.layers.{i}.prompt_norm.{p}"),
    *_attention("detr_decoder.layers.{i}.vision_cross_attn", "decoder.layers.{i}.image_attention"),
    rename("detr_decoder.layers.{i}.vision_cross_attn_layer_norm.{p}", "decoder.layers.{i}.image_norm.{p}"),
    *_feed_forward("detr_decoder.layers.{i}", "decoder.layers.{i}"),
    rename("detr_decoder.layers.{i}.mlp_layer_norm.{p}", "decoder.layers.{i}.feed_forward_norm.{p}"),
    rename("detr_decoder.output_layer_norm.{p}", "decoder.norm.{p}"),
    *_mlp("detr_decoder.box_head", "decoder.box_head", depth=3),
    *_mlp("detr_decoder.ref_point_head", "decoder.reference_head", depth=2),
    *_mlp("detr_decoder.box_rpb_embed_x", "decoder.box_bias.columns", depth=2),
    *_mlp("detr_decoder.box_rpb_embed_y", "decoder.box_bias.rows", depth=2),
    *_mlp("detr_decoder.presence_head", "decoder.presence_head.mlp", depth=3),
    rename("detr_decoder.presence_layer_norm.{p}", "decoder.presence_head.norm.{p}"),
)

SCORING = (
    *_mlp("dot_product_scoring.text_mlp", "scoring.prompt_mlp", depth=2),
    rename("dot_product_scoring.text_mlp_out_norm.{p}", "scoring.prompt_norm.{p}"),
    rename("dot_product_scoring.text_proj.{p}", "scoring.prompt_projection.{p}"),
    rename("dot_product_scoring.query_proj.{p}", "scoring.query_projection.{p}"),
)

MASK_HEAD = (
    rename("mask_decoder.prompt_cross_attn_norm.{p}", "mask_head.prompt_norm.{p}"),
    *_attention("mask_decoder.prompt_cross_attn", "mask_head.prompt_attention"),
    rename("mask_decoder.pixel_decoder.conv_layers.{i}.{p}", "mask_head.convs.{i}.{p}"),
    rename("mask_decoder.pixel_decoder.norms.{i}.{p}", "mask_head.norms.{i}.{p}"),
    rename("mask_decoder.mask_embedder.layers.{i}.{p}", "mask_head.mask_embedding.layers.{i}.{p}"),
    rename("mask_decoder.instance_projection.{p}", "mask_head.instance_projection.{p}"),
    rename("mask_decoder.semantic_projection.{p}", "mask_head.semantic_projection.{p}"),
)

HUGGING_FACE = KeyTable(
    layout="Hugging Face",
    rules=(*VISION, *TEXT, *EXEMPLARS, *FUSION, *DECODER, *SCORING, *MASK_HEAD),
    unused=("text_encoder.text_projection.weight", f"{_TEXT}.embeddings.position_ids"),
    prefixes=("detector_model.",),
    foreign_parts=("tracker_model.", "tracker_neck."),
)


def from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `transformers` Sam3Model, or of a video model's detector -> a state dict of ours.

    Give the result to `folder.assign_weights`, which refuses it unless every parameter of the detector is
    there.

    Raises:
        CheckpointError: a key is unknown, or a tensor is missing or does not fit.
    """
    ours = HUGGING_FACE.translate(state)
    like = ours.get("exemplar_encoder.input_projection.weight")
    if like is None:
        wanted = [rule.theirs[0] for rule in EXEMPLARS]
        raise CheckpointError(f"the weights hold no exemplar encoder; expected {first_few(wanted)}")
    width = like.shape[0]
    for name, inputs in (("point_coordinates", 2), ("point_features", width), ("point_position", width)):
        ours[f"exemplar_encoder.{name}.weight"] = torch.zeros(
            width, inputs, dtype=like.dtype, device=like.device
        )
        ours[f"exemplar_encoder.{name}.bias"] = torch.zeros(width, dtype=like.dtype, device=like.device)
    return ours


# What `transformers` assumes where a config says nothing. A text config that is given in part is filled up
# from CLIP's.
_VISION_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 4736,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "window_size": 24,
    "global_attn_indexes": [7, 15, 23, 31],
    "pretrain_image_size": 336,
}
_SAM3_TEXT_DEFAULTS = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "max_position_embeddings": 32,
    "hidden_act": "gelu",
}
_CLIP_TEXT_DEFAULTS = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
_LAYER_DEFAULTS = {"hidden_size": 256, "intermediate_size": 2048, "num_attention_heads": 8, "dropout": 0.1}


def config_from_huggingface(config: Mapping[str, Any]) -> DetectorConfig:
    """A Sam3Config (or a Sam3VideoConfig, of which the detector is taken), as a mapping -> our architecture.

    The norms of the released trunk were trained with an epsilon of 1e-5, and run with it here; `transformers`
    says 1e-6.

    Raises:
        ConfigError: the config asks for something that this network cannot be.
    """
    if config.get("detector_config"):
        config = config["detector_config"]
    vision = config.get("vision_config") or {}
    backbone = {**_VISION_DEFAULTS, **(vision.get("backbone_config") or {})}
    text: dict[str, Any] = {**_SAM3_TEXT_DEFAULTS}
    if config.get("text_config"):
        text = {**_CLIP_TEXT_DEFAULTS, **config["text_config"]}
    exemplar, fusion, decoder, mask_head = (
        {**_LAYER_DEFAULTS, **(config.get(f"{part}_config") or {})}
        for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder")
    )
    width = vision.get("fpn_hidden_size", 256)
    for name, part in (("geometry_encoder", exemplar), ("detr_encoder", fusion), ("detr_decoder", decoder)):
        _only_value(f"{name}_config.hidden_size", part["hidden_size"], width)
        _only_value(f"{name}_config.hidden_act", part.get("hidden_act", "relu"), "relu")
    _only_value("mask_decoder_config.hidden_size", mask_head["hidden_size"], width)
    _only_value("text_config.hidden_act", text["hidden_act"], "gelu")
    _only_value("text_config.layer_norm_eps", text.get("layer_norm_eps", 1e-5), 1e-5)
    return DetectorConfig(
        width=width,
        vision=_trunk(backbone),
        neck=NeckConfig(scales=tuple(float(s) for s in vision.get("scale_factors") or (4.0, 2.0, 1.0, 0.5))),
        text=TextConfig(
            vocab_size=text["vocab_size"],
            context_length=text["max_position_embeddings"],
            width=text["hidden_size"],
            depth=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            mlp_width=text["intermediate_size"],
        ),
        exemplar=ExemplarConfig(
            layers=exemplar.get("num_layers", 3), roi_size=exemplar.get("roi_size", 7), **_layer(exemplar)
        ),
        fusion=FusionConfig(layers=fusion.get("num_layers", 6), **_layer(fusion)),
        decoder=DecoderConfig(
            layers=decoder.get("num_layers", 6), queries=decoder.get("num_queries", 200), **_layer(decoder)
        ),
        scoring=ScoringConfig(mlp_width=decoder["intermediate_size"], dropout=decoder["dropout"]),
        mask_head=MaskHeadConfig(
            heads=mask_head["num_attention_heads"],
            upsampling_stages=mask_head.get("num_upsampling_stages", 3),
        ),
    )


def _trunk(backbone: Mapping[str, Any]) -> ViTConfig:
    _only_value("backbone_config.hidden_act", backbone.get("hidden_act", "gelu"), "gelu")
    _only_value("backbone_config.layer_norm_eps", backbone.get("layer_norm_eps", 1e-6), 1e-6, 1e-5)
    _only_value("backbone_config.layer_scale_init_value", backbone.get("layer_scale_init_value"), None)
    _only_value("backbone_config.num_channels", backbone.get("num_channels", 3), 3)
    patch = _side("backbone_config.patch_size", backbone["patch_size"])
    rope = backbone.get("rope_parameters") or {"rope_theta": backbone.get("rope_theta", 10000.0)}
    return ViTConfig(
        patch_size=patch,
        width=backbone["hidden_size"],
        depth=backbone["num_hidden_layers"],
        heads=backbone["num_attention_heads"],
        mlp_width=backbone["intermediate_size"],
        window=backbone["window_size"],
        global_blocks=tuple(backbone["global_attn_indexes"]),
        position_grid=_side("backbone_config.pretrain_image_size", backbone["pretrain_image_size"]) // patch,
        rope_theta=float(rope.get("rope_theta", 10000.0)),
    )


def _layer(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "heads": part["num_attention_heads"],
        "mlp_width": part["intermediate_size"],
        "dropout": float(part["dropout"]),
    }


def _side(name: str, size: Any) -> int:
    """The side of a square that is written as one number or as two."""
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ConfigError(f"{name} is {size!r}; only squares are supported")
        return int(size[0])
    return int(size)


def _only_value(name: str, value: Any, *supported: Any) -> None:
    if value not in supported:
        choices = " or ".join(repr(s) for s in supported)
        raise ConfigError(f"{name} of the Hugging Face config is {value!r}; this network needs {choices}")
