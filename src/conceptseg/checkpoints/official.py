"""The layout of the official code: SAM 3's image detector, and what lies beside it in `sam3.pt`.

Attention is stored as here, with query, key and value in one matrix, so nearly every rule only renames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conceptseg.checkpoints.key_table import (
    UNUSED,
    KeyTable,
    Known,
    Rule,
    position_grid_with_class,
    rename,
)
from conceptseg.checkpoints.mobileclip import POOLED
from conceptseg.models.config import ViTConfig

TRUNK = "backbone.vision_backbone.trunk."
LANGUAGE = "backbone.language_backbone."
ROTARY = "backbone.vision_backbone.trunk.blocks.{i}.attn.freqs_cis"
CLASS_POSITION = f"{UNUSED}vision_encoder.class_position"  # of a token that only pre-training had
DETECTOR = "detector."  # before every key of the released file


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(f"{theirs}.in_proj_{{p}}", f"{ours}.in_proj_{{p}}"),
        rename(f"{theirs}.out_proj.{{p}}", f"{ours}.out_proj.{{p}}"),
    )


def _feed_forward(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(f"{theirs}.linear1.{{p}}", f"{ours}.feed_forward.linear1.{{p}}"),
        rename(f"{theirs}.linear2.{{p}}", f"{ours}.feed_forward.linear2.{{p}}"),
    )


def _encoder_layer(theirs: str, ours: str, cross_attention: str) -> tuple[Rule, ...]:
    """Of exemplar and fusion encoder; what attends to the image in one attends to the prompt in the other."""
    return (
        *_attention(f"{theirs}.self_attn", f"{ours}.self_attention"),
        *_attention(f"{theirs}.cross_attn_image", f"{ours}.{cross_attention}"),
        *_feed_forward(theirs, ours),
        rename(f"{theirs}.norm1.{{p}}", f"{ours}.norm1.{{p}}"),
        rename(f"{theirs}.norm2.{{p}}", f"{ours}.norm2.{{p}}"),
        rename(f"{theirs}.norm3.{{p}}", f"{ours}.norm3.{{p}}"),
    )


VISION = (
    rename(f"{TRUNK}patch_embed.proj.weight", "vision_encoder.patch_embed.weight"),
    *position_grid_with_class(f"{TRUNK}pos_embed", "vision_encoder.position_embedding", CLASS_POSITION),
    rename(f"{TRUNK}ln_pre.{{p}}", "vision_encoder.norm_pre.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.norm1.{{p}}", "vision_encoder.blocks.{i}.norm1.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.norm2.{{p}}", "vision_encoder.blocks.{i}.norm2.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.attn.qkv.{{p}}", "vision_encoder.blocks.{i}.attention.qkv.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.attn.proj.{{p}}", "vision_encoder.blocks.{i}.attention.proj.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.mlp.fc1.{{p}}", "vision_encoder.blocks.{i}.mlp.0.{p}"),
    rename(f"{TRUNK}blocks.{{i}}.mlp.fc2.{{p}}", "vision_encoder.blocks.{i}.mlp.2.{p}"),
)

_CONVS = "backbone.vision_backbone.convs"
NECK = (
    # The first branch upsamples twice, with a GELU in between that has no weights; the second once.
    rename(f"{_CONVS}.0.dconv_2x2_0.{{p}}", "neck.branches.0.resample.0.{p}"),
    rename(f"{_CONVS}.0.dconv_2x2_1.{{p}}", "neck.branches.0.resample.2.{p}"),
    rename(f"{_CONVS}.1.dconv_2x2.{{p}}", "neck.branches.1.resample.0.{p}"),
    rename(f"{_CONVS}.{{i}}.conv_1x1.{{p}}", "neck.branches.{i}.conv_1x1.{p}"),
    rename(f"{_CONVS}.{{i}}.conv_3x3.{{p}}", "neck.branches.{i}.conv_3x3.{p}"),
)

_ENCODER = f"{LANGUAGE}encoder"
_BLOCK = f"{_ENCODER}.transformer.resblocks.{{i}}"
TEXT = (
    rename(f"{_ENCODER}.token_embedding.weight", "text_encoder.token_embedding.weight"),
    rename(f"{_ENCODER}.positional_embedding", "text_encoder.position_embedding"),
    rename(f"{_BLOCK}.ln_1.{{p}}", "text_encoder.blocks.{i}.norm1.{p}"),
    rename(f"{_BLOCK}.ln_2.{{p}}", "text_encoder.blocks.{i}.norm2.{p}"),
    *_attention(f"{_BLOCK}.attn", "text_encoder.blocks.{i}.attention"),
    rename(f"{_BLOCK}.mlp.c_fc.{{p}}", "text_encoder.blocks.{i}.mlp.0.{p}"),
    rename(f"{_BLOCK}.mlp.c_proj.{{p}}", "text_encoder.blocks.{i}.mlp.2.{p}"),
    rename(f"{_ENCODER}.ln_final.{{p}}", "text_encoder.norm.{p}"),
    rename(f"{LANGUAGE}resizer.{{p}}", "text_encoder.projection.{p}"),
    rename(f"{_ENCODER}.text_projection", POOLED),
)

_EXEMPLAR = "geometry_encoder"
EXEMPLARS = (
    rename(f"{_EXEMPLAR}.label_embed.weight", "exemplar_encoder.label_embedding.weight"),
    rename(f"{_EXEMPLAR}.cls_embed.weight", "exemplar_encoder.summary_token"),
    rename(f"{_EXEMPLAR}.points_direct_project.{{p}}", "exemplar_encoder.point_coordinates.{p}"),
    rename(f"{_EXEMPLAR}.points_pool_project.{{p}}", "exemplar_encoder.point_features.{p}"),
    rename(f"{_EXEMPLAR}.points_pos_enc_project.{{p}}", "exemplar_encoder.point_position.{p}"),
    rename(f"{_EXEMPLAR}.boxes_direct_project.{{p}}", "exemplar_encoder.box_coordinates.{p}"),
    rename(f"{_EXEMPLAR}.boxes_pool_project.{{p}}", "exemplar_encoder.box_features.{p}"),
    rename(f"{_EXEMPLAR}.boxes_pos_enc_project.{{p}}", "exemplar_encoder.box_position.{p}"),
    rename(f"{_EXEMPLAR}.img_pre_norm.{{p}}", "exemplar_encoder.pooling_norm.{p}"),
    rename(f"{_EXEMPLAR}.final_proj.{{p}}", "exemplar_encoder.input_projection.{p}"),
    rename(f"{_EXEMPLAR}.norm.{{p}}", "exemplar_encoder.input_norm.{p}"),
    *_encoder_layer(f"{_EXEMPLAR}.encode.{{i}}", "exemplar_encoder.layers.{i}", "image_attention"),
    rename(f"{_EXEMPLAR}.encode_norm.{{p}}", "exemplar_encoder.output_norm.{p}"),
)

FUSION = _encoder_layer("transformer.encoder.layers.{i}", "fusion_encoder.layers.{i}", "prompt_attention")

_DECODER = "transformer.decoder"
_LAYER = f"{_DECODER}.layers.{{i}}"
DECODER = (
    rename(f"{_DECODER}.query_embed.weight", "decoder.query_embedding"),
    rename(f"{_DECODER}.reference_points.weight", "decoder.reference_points"),
    rename(f"{_DECODER}.presence_token.weight", "decoder.presence_token"),
    *_attention(f"{_LAYER}.self_attn", "decoder.layers.{i}.self_attention"),
    *_attention(f"{_LAYER}.ca_text", "decoder.layers.{i}.prompt_attention"),
    *_attention(f"{_LAYER}.cross_attn", "decoder.layers.{i}.image_attention"),
    *_feed_forward(_LAYER, "decoder.layers.{i}"),
    # Numbered in the order they were written, not in the order they run.
    rename(f"{_LAYER}.norm2.{{p}}", "decoder.layers.{i}.self_norm.{p}"),
    rename(f"{_LAYER}.catext_norm.{{p}}", "decoder.layers.{i}.prompt_norm.{p}"),
    rename(f"{_LAYER}.norm1.{{p}}", "decoder.layers.{i}.image_norm.{p}"),
    rename(f"{_LAYER}.norm3.{{p}}", "decoder.layers.{i}.feed_forward_norm.{p}"),
    rename(f"{_DECODER}.norm.{{p}}", "decoder.norm.{p}"),
    rename(f"{_DECODER}.bbox_embed.layers.{{i}}.{{p}}", "decoder.box_head.layers.{i}.{p}"),
    rename(f"{_DECODER}.ref_point_head.layers.{{i}}.{{p}}", "decoder.reference_head.layers.{i}.{p}"),
    rename(f"{_DECODER}.boxRPB_embed_x.layers.{{i}}.{{p}}", "decoder.box_bias.columns.layers.{i}.{p}"),
    rename(f"{_DECODER}.boxRPB_embed_y.layers.{{i}}.{{p}}", "decoder.box_bias.rows.layers.{i}.{p}"),
    rename(f"{_DECODER}.presence_token_head.layers.{{i}}.{{p}}", "decoder.presence_head.mlp.layers.{i}.{p}"),
    rename(f"{_DECODER}.presence_token_out_norm.{{p}}", "decoder.presence_head.norm.{p}"),
)

SCORING = (
    rename("dot_prod_scoring.prompt_mlp.layers.{i}.{p}", "scoring.prompt_mlp.layers.{i}.{p}"),
    rename("dot_prod_scoring.prompt_mlp.out_norm.{p}", "scoring.prompt_norm.{p}"),
    rename("dot_prod_scoring.prompt_proj.{p}", "scoring.prompt_projection.{p}"),
    rename("dot_prod_scoring.hs_proj.{p}", "scoring.query_projection.{p}"),
)

_MASKS = "segmentation_head"
MASK_HEAD = (
    rename(f"{_MASKS}.cross_attn_norm.{{p}}", "mask_head.prompt_norm.{p}"),
    *_attention(f"{_MASKS}.cross_attend_prompt", "mask_head.prompt_attention"),
    rename(f"{_MASKS}.pixel_decoder.conv_layers.{{i}}.{{p}}", "mask_head.convs.{i}.{p}"),
    rename(f"{_MASKS}.pixel_decoder.norms.{{i}}.{{p}}", "mask_head.norms.{i}.{p}"),
    rename(
        f"{_MASKS}.mask_predictor.mask_embed.layers.{{i}}.{{p}}", "mask_head.mask_embedding.layers.{i}.{p}"
    ),
    rename(f"{_MASKS}.instance_seg_head.{{p}}", "mask_head.instance_projection.{p}"),
    rename(f"{_MASKS}.semantic_seg_head.{{p}}", "mask_head.semantic_projection.{p}"),
)

# Everything but the two encoders that students replace.
SHARED = (*NECK, *EXEMPLARS, *FUSION, *DECODER, *SCORING, *MASK_HEAD)
ROTARY_TABLES = Known(ROTARY, "rotary tables, which are computed")
TRACKER_NECKS = tuple(
    Known(f"backbone.vision_backbone.{name}.*", "neck of the video tracker")
    for name in ("sam2_convs", "interactive_convs", "propagation_convs")  # the last two in SAM 3.1
)
OTHER_NETWORKS = {"tracker.": "video tracker", "inst_interactive_predictor.": "interactive predictor"}

OFFICIAL = KeyTable(
    layout="official SAM 3",
    rules=(*VISION, *TEXT, *SHARED),
    known=(ROTARY_TABLES, *TRACKER_NECKS),
    prefixes=(f"module.{DETECTOR}", DETECTOR, "module."),
    foreign_parts=OTHER_NETWORKS,
)


def rotary_tables(vision: ViTConfig, resolution: int) -> dict[str, Tensor]:
    """The tables that official files hold, complex, (tokens, channels of a head / 2) for each block.

    The same numbers as in `layers/rope.py`, in the order of operations of the official code, which matters to
    their last bits.
    """
    width = vision.width // vision.heads
    frequencies = 1.0 / vision.rope_theta ** (torch.arange(0, width, 4).float() / width)

    def table(side: int) -> Tensor:
        token = torch.arange(side * side, dtype=torch.float32)
        scale = vision.window / side
        x, y = (token % side) * scale, torch.div(token, side, rounding_mode="floor") * scale
        angle = torch.cat((torch.outer(x, frequencies), torch.outer(y, frequencies)), dim=-1)
        return torch.polar(torch.ones_like(angle), angle)

    windowed, whole = table(vision.window), table(resolution // vision.patch_size)
    return {
        ROTARY.replace("{i}", str(i)): whole if i in vision.global_blocks else windowed
        for i in range(vision.depth)
    }
