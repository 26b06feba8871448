"""A config of `transformers` (Sam3Config, Sam3LiteTextConfig) -> ours, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conceptseg.errors import ConfigError
from conceptseg.models.config import (
    DecoderConfig,
    DetectorConfig,
    ExemplarConfig,
    ExemplarSizes,
    FusionConfig,
    MaskHeadConfig,
    MobileClipTextConfig,
    NeckConfig,
    ScoringConfig,
    TextConfig,
    ViTConfig,
)

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
_LITE_TEXT_DEFAULTS = {**_CLIP_TEXT_DEFAULTS, "hidden_act": "gelu", "use_repmixer_blocks": True}
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
    text = _text(config.get("text_config") or {}, lite=is_lite_text(config))
    exemplar, fusion, decoder, mask_head = (
        {**_LAYER_DEFAULTS, **(config.get(f"{part}_config") or {})}
        for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder")
    )
    width = vision.get("fpn_hidden_size", 256)
    for name, part in (("geometry_encoder", exemplar), ("detr_encoder", fusion), ("detr_decoder", decoder)):
        _only_value(f"{name}_config.hidden_size", part["hidden_size"], width)
        _only_value(f"{name}_config.hidden_act", part.get("hidden_act", "relu"), "relu")
    _only_value("mask_decoder_config.hidden_size", mask_head["hidden_size"], width)
    return DetectorConfig(
        width=width,
        vision=_trunk(backbone),
        neck=NeckConfig(scales=tuple(float(s) for s in vision.get("scale_factors") or (4.0, 2.0, 1.0, 0.5))),
        text=text,
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


def config_to_huggingface(config: DetectorConfig, resolution: int) -> dict[str, Any]:
    """What `config.json` says of this network in the layout of `transformers`.

    Raises:
        ConfigError: that layout has no such network.
    """
    vision, text = config.vision, config.text
    if not isinstance(vision, ViTConfig):
        raise ConfigError(
            f"the Hugging Face layout has no vision encoder of kind {vision.kind!r}, only SAM 3's trunk; "
            "own and official do"
        )
    lite = isinstance(text, MobileClipTextConfig)
    prefix = "sam3_lite_text" if lite else "sam3"
    values = {
        "model_type": prefix,
        "architectures": ["Sam3LiteTextModel" if lite else "Sam3Model"],
        "vision_config": {
            "model_type": "sam3_vision_model",
            "fpn_hidden_size": config.width,
            "scale_factors": list(config.neck.scales),
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": vision.width,
                "intermediate_size": vision.mlp_width,
                "num_hidden_layers": vision.depth,
                "num_attention_heads": vision.heads,
                "patch_size": vision.patch_size,
                "image_size": resolution,
                "pretrain_image_size": vision.position_grid * vision.patch_size,
                "window_size": vision.window,
                "global_attn_indexes": list(vision.global_blocks),
                "rope_theta": vision.rope_theta,
                "layer_norm_eps": vision.norm_eps,
            },
        },
        "text_config": {
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": "gelu",
        },
        "geometry_encoder_config": {
            **_written_layer(config, config.exemplar),
            "num_layers": config.exemplar.layers,
            "roi_size": config.exemplar.roi_size,
        },
        "detr_encoder_config": {
            **_written_layer(config, config.fusion),
            "num_layers": config.fusion.layers,
        },
        "detr_decoder_config": {
            **_written_layer(config, config.decoder),
            "num_layers": config.decoder.layers,
            "num_queries": config.decoder.queries,
        },
        "mask_decoder_config": {
            "hidden_size": config.width,
            "num_attention_heads": config.mask_head.heads,
            "num_upsampling_stages": config.mask_head.upsampling_stages,
        },
    }
    if isinstance(text, MobileClipTextConfig):
        values["text_config"] |= {  # type: ignore[operator]  # a dict, as written above
            "num_hidden_layers": text.depth + 2 * text.rep_mixer,
            "max_position_embeddings": text.rows,
            "projection_dim": text.width,
            "use_repmixer_blocks": text.rep_mixer,
        }
    return values


def is_lite_text(config: Mapping[str, Any]) -> bool:
    return str(config.get("model_type", "")).startswith("sam3_lite_text")


def image_size(config: Mapping[str, Any]) -> int:
    """Side of the square that images are stretched to."""
    vision = (config.get("detector_config") or config).get("vision_config") or {}
    backbone = vision.get("backbone_config") or {}
    return _side("backbone_config.image_size", backbone.get("image_size", 1008))


def _text(given: Mapping[str, Any], lite: bool) -> TextConfig | MobileClipTextConfig:
    if lite:
        text: Mapping[str, Any] = {**_LITE_TEXT_DEFAULTS, **given}
    else:
        text = {**_CLIP_TEXT_DEFAULTS, **given} if given else _SAM3_TEXT_DEFAULTS
    _only_value("text_config.hidden_act", text["hidden_act"], "gelu")
    _only_value("text_config.layer_norm_eps", text.get("layer_norm_eps", 1e-5), 1e-5)
    sizes = {
        "vocab_size": text["vocab_size"],
        "context_length": text["max_position_embeddings"],
        "width": text["hidden_size"],
        "heads": text["num_attention_heads"],
        "mlp_width": text["intermediate_size"],
    }
    depth = text["num_hidden_layers"]
    if not lite:
        return TextConfig(depth=depth, **sizes)
    _only_value("text_config.repmixer_kernel_size", text.get("repmixer_kernel_size", 11), 11)
    rep_mixer = bool(text["use_repmixer_blocks"])
    rows = text["max_position_embeddings"]
    return MobileClipTextConfig(depth=depth - 2 * rep_mixer, rep_mixer=rep_mixer, positions=rows, **sizes)


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


def _written_layer(
    config: DetectorConfig, part: ExemplarSizes | FusionConfig | DecoderConfig
) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_attention_heads": part.heads,
        "intermediate_size": part.mlp_width,
        "dropout": part.dropout,
        "hidden_act": "relu",
    }
