"""The text encoders of EfficientSAM3 and SAM3-LiteText: their names -> those of `models/text/mobileclip.py`.

Two layouts hold the same encoders: the released files, and `transformers`' Sam3LiteTextModel. Their rules are
the same for all sizes, which `mobileclip_config` reads off the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from conceptseg.checkpoints.key_table import UNUSED, Rule, rename, stack, transpose
from conceptseg.errors import CheckpointError
from conceptseg.models.config import MobileClipTextConfig

LANGUAGE = "backbone.language_backbone."  # in a whole model; alone: "encoder." and "projector."
OURS = "text_encoder."
HEAD_WIDTH = 64  # channels per attention head, in all released sizes
POOLED = f"{UNUSED}text_projection"  # (width, width), of a whole phrase; the detector reads single words


def mobileclip_rules(theirs: str = LANGUAGE, ours: str = OURS) -> tuple[Rule, ...]:
    """Of the released files.

    Args:
        theirs: prefix of the released names.
        ours: prefix of the names of our module.
    """
    encoder = f"{theirs}encoder"
    block, our_block = f"{encoder}.transformer.{{i}}", f"{ours}blocks.{{i}}"
    return (
        rename(f"{encoder}.embedding_layer.weight", f"{ours}token_embedding.weight"),
        _table(f"{encoder}.positional_embedding.pos_embed.pos_embed", f"{ours}position_embedding"),
        rename(f"{block}.pre_norm_mha.0.{{p}}", f"{our_block}.norm1.{{p}}"),
        rename(f"{block}.pre_norm_mha.1.qkv_proj.{{p}}", f"{our_block}.attention.in_proj_{{p}}"),
        rename(f"{block}.pre_norm_mha.1.out_proj.{{p}}", f"{our_block}.attention.out_proj.{{p}}"),
        rename(f"{block}.pre_norm_ffn.0.{{p}}", f"{our_block}.norm2.{{p}}"),
        rename(f"{block}.pre_norm_ffn.1.{{p}}", f"{our_block}.mlp.0.{{p}}"),
        rename(f"{block}.pre_norm_ffn.4.{{p}}", f"{our_block}.mlp.2.{{p}}"),
        rename(f"{block}.layer_scale", f"{our_block}.scale"),
        rename(f"{block}.token_mixer.layer_scale", f"{our_block}.mixer.scale"),
        rename(f"{block}.token_mixer.norm.rbr_skip.{{n}}", f"{our_block}.mixer.reference_norm.{{n}}"),
        rename(f"{block}.token_mixer.mixer.rbr_skip.{{n}}", f"{our_block}.mixer.skip_norm.{{n}}"),
        rename(f"{block}.token_mixer.mixer.rbr_conv.0.conv.weight", f"{our_block}.mixer.conv.weight"),
        rename(f"{block}.token_mixer.mixer.rbr_conv.0.bn.{{n}}", f"{our_block}.mixer.conv_norm.{{n}}"),
        rename(f"{block}.convffn.conv.conv.weight", f"{our_block}.feed_forward.conv.weight"),
        rename(f"{block}.convffn.conv.bn.{{n}}", f"{our_block}.feed_forward.norm.{{n}}"),
        rename(f"{block}.convffn.fc1.{{p}}", f"{our_block}.feed_forward.linear1.{{p}}"),
        rename(f"{block}.convffn.fc2.{{p}}", f"{our_block}.feed_forward.linear2.{{p}}"),
        rename(f"{encoder}.final_layer_norm.{{p}}", f"{ours}norm.{{p}}"),
        rename(f"{theirs}projector.{{p}}", f"{ours}projection.{{p}}"),
        rename(f"{encoder}.projection_layer", POOLED),
    )


def huggingface_mobileclip_rules(theirs: str = "", ours: str = OURS) -> tuple[Rule, ...]:
    """Of Sam3LiteTextModel; names begin with "text_encoder." and "text_projection." after the prefix."""
    encoder = f"{theirs}text_encoder"
    block, our_block = f"{encoder}.layers.{{i}}", f"{ours}blocks.{{i}}"
    convolutions, our_convolutions = f"{block}.conv_feed_forward", f"{our_block}.feed_forward"
    return (
        rename(f"{encoder}.embeddings.token_embedding.weight", f"{ours}token_embedding.weight"),
        _table(f"{encoder}.embeddings.position_embedding.position_embedding", f"{ours}position_embedding"),
        rename(f"{block}.layer_norm1.{{p}}", f"{our_block}.norm1.{{p}}"),
        stack(
            f"{block}.self_attn.{{part}}.{{p}}",
            ("q_proj", "k_proj", "v_proj"),
            f"{our_block}.attention.in_proj_{{p}}",
        ),
        rename(f"{block}.self_attn.out_proj.{{p}}", f"{our_block}.attention.out_proj.{{p}}"),
        rename(f"{block}.layer_norm2.{{p}}", f"{our_block}.norm2.{{p}}"),
        rename(f"{block}.mlp.fc1.{{p}}", f"{our_block}.mlp.0.{{p}}"),
        rename(f"{block}.mlp.fc2.{{p}}", f"{our_block}.mlp.2.{{p}}"),
        rename(f"{block}.layer_scale", f"{our_block}.scale"),
        rename(f"{block}.token_mixer.layer_scale", f"{our_block}.mixer.scale"),
        rename(f"{block}.token_mixer.reference_batchnorm.{{n}}", f"{our_block}.mixer.reference_norm.{{n}}"),
        rename(f"{block}.token_mixer.mixer.batchnorm_skip.{{n}}", f"{our_block}.mixer.skip_norm.{{n}}"),
        rename(f"{block}.token_mixer.mixer.conv.weight", f"{our_block}.mixer.conv.weight"),
        rename(f"{block}.token_mixer.mixer.batchnorm_conv.{{n}}", f"{our_block}.mixer.conv_norm.{{n}}"),
        rename(f"{convolutions}.depthwise_conv.weight", f"{our_convolutions}.conv.weight"),
        rename(f"{convolutions}.depthwise_batchnorm.{{n}}", f"{our_convolutions}.norm.{{n}}"),
        rename(f"{convolutions}.mlp.fc1.{{p}}", f"{our_convolutions}.linear1.{{p}}"),
        rename(f"{convolutions}.mlp.fc2.{{p}}", f"{our_convolutions}.linear2.{{p}}"),
        rename(f"{encoder}.final_layer_norm.{{p}}", f"{ours}norm.{{p}}"),
        rename(f"{theirs}text_projection.{{p}}", f"{ours}projection.{{p}}"),
        transpose(f"{encoder}.projection.weight", POOLED),
    )


def mobileclip_config(
    shapes: Mapping[str, Sequence[int]], context_length: int | None = None, ours: str = OURS
) -> MobileClipTextConfig:
    """The sizes of an encoder whose names have been translated.

    Args:
        shapes: our name -> shape.
        context_length: that phrases are padded to, which weights do not say; None: one token per position.
        ours: prefix of the names of our module.

    Raises:
        CheckpointError: the names are not those of this encoder.
    """
    rep_mixer = f"{ours}blocks.0.mixer.conv.weight" in shapes
    try:
        vocab_size, width = shapes[f"{ours}token_embedding.weight"]
        positions, _ = shapes[f"{ours}position_embedding"]
        mlp_width, _ = shapes[f"{ours}blocks.{1 if rep_mixer else 0}.mlp.0.weight"]
    except KeyError as error:
        raise CheckpointError(f"these weights hold no MobileCLIP text encoder: no {error}") from error
    depth = sum(name.startswith(f"{ours}blocks.") and name.endswith(".mlp.0.weight") for name in shapes)
    return MobileClipTextConfig(
        vocab_size=vocab_size,
        context_length=positions if context_length is None else context_length,
        positions=positions,
        width=width,
        depth=depth,
        heads=max(1, width // HEAD_WIDTH),
        mlp_width=mlp_width,
        rep_mixer=rep_mixer,
    )


def _table(theirs: str, ours: str) -> Rule:
    """A position table (1, 1, positions, width) without the dimensions that say nothing."""
    return Rule((theirs,), ours, _without_ones, _with_ones)


def _without_ones(tensors: list[Tensor]) -> Tensor:
    return tensors[0].flatten(0, 2)


def _with_ones(tensors: list[Tensor | None]) -> list[Tensor]:
    table = tensors[0]
    assert table is not None  # ours is always there
    return [table[None, None]]
