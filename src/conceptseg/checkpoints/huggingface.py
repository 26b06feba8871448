"""The layout of `transformers` (Sam3Model, Sam3LiteTextModel): key tables.

Not there: the point projections of the exemplar encoder, which `transformers` dropped; they become zeros, so
that a point is no more than its label. The tracker that lies beside the detector in the released video files
is left alone.

Some rules read like those of `official.py`, because both name one network. They stay apart: each table says
what another program writes, and changes when that program does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from conceptseg.checkpoints.key_table import (
    KeyTable,
    Known,
    Rule,
    first_few,
    position_grid,
    rename,
    stack,
    transpose,
)
from conceptseg.checkpoints.mobileclip import POOLED, huggingface_mobileclip_rules
from conceptseg.errors import CheckpointError

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

SHARED = (*VISION, *EXEMPLARS, *FUSION, *DECODER, *SCORING, *MASK_HEAD)
PREFIX = "detector_model."  # before every key of the detector in files that hold the video model
OTHER_NETWORKS = {"tracker_model.": "video tracker", "tracker_neck.": "neck of the video tracker"}
POINTS = "exemplar_encoder.point_"  # begins our names of what this layout does not have
LITE_TEXT_MARK = "text_encoder.embeddings.token_embedding.weight"

HUGGING_FACE = KeyTable(
    layout="Hugging Face",
    rules=(*TEXT, transpose("text_encoder.text_projection.weight", POOLED), *SHARED),
    known=(Known(f"{_TEXT}.embeddings.position_ids", "numbers of positions, which are computed"),),
    prefixes=(PREFIX,),
    foreign_parts=OTHER_NETWORKS,
)
LITE_TEXT = KeyTable(
    layout="Hugging Face LiteText",
    rules=(*huggingface_mobileclip_rules(), *SHARED),
    prefixes=(PREFIX,),
    foreign_parts=OTHER_NETWORKS,
)


def huggingface_table(keys: Iterable[str]) -> KeyTable:
    """Of the two, the one whose text encoder these keys have."""
    return LITE_TEXT if {LITE_TEXT_MARK, f"{PREFIX}{LITE_TEXT_MARK}"} & set(keys) else HUGGING_FACE


def from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `transformers` model, or of a video model's detector -> a state dict of ours.

    Give the result to `folder.assign_weights`, which refuses it unless every parameter of the detector is
    there.

    Raises:
        CheckpointError: a key is unknown, or a tensor is missing or does not fit.
    """
    ours = huggingface_table(state).translate(state)
    return ours | point_projections(ours)


def point_projections(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros in place of what this layout does not hold.

    Raises:
        CheckpointError: there is no exemplar encoder to which they would belong.
    """
    like = ours.get("exemplar_encoder.input_projection.weight")
    if like is None:
        wanted = [rule.theirs[0] for rule in EXEMPLARS]
        raise CheckpointError(f"the weights hold no exemplar encoder; expected {first_few(wanted)}")
    width = like.shape[0]
    zeros = {}
    for name, inputs in (("point_coordinates", 2), ("point_features", width), ("point_position", width)):
        zeros[f"exemplar_encoder.{name}.weight"] = like.new_zeros(width, inputs)
        zeros[f"exemplar_encoder.{name}.bias"] = like.new_zeros(width)
    return zeros
