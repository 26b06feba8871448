"""The Hugging Face layout, as far as it can be told without `transformers` (tests/parity has the rest)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from conceptseg.checkpoints.folder import assign_weights
from conceptseg.checkpoints.huggingface import HUGGING_FACE, from_huggingface
from conceptseg.checkpoints.huggingface_config import config_from_huggingface
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.build import build_detector
from conceptseg.models.presets import PRESETS
from tests.models.tiny import tiny_config, tiny_detector


def foreign_state() -> dict[str, Tensor]:
    """A tiny detector of ours under foreign names: the table read backwards."""
    state, homeless = HUGGING_FACE.back(tiny_detector().state_dict())
    assert all(name.startswith("exemplar_encoder.point_") for name in homeless)
    return state


def test_every_parameter_of_ours_comes_back_and_point_projections_are_zero() -> None:
    detector = build_detector(tiny_config())
    assign_weights(detector, from_huggingface(foreign_state()), "test")
    expected = tiny_detector().state_dict()
    for name, value in detector.state_dict().items():
        if "exemplar_encoder.point_" in name:
            assert not value.any()
        else:
            assert torch.equal(value, expected[name])


def test_prefix_tracker_and_unused_projection_of_the_released_file_are_no_obstacle() -> None:
    state = {f"detector_model.{name}": value for name, value in foreign_state().items()}
    state["detector_model.text_encoder.text_projection.weight"] = torch.zeros(4, 24)
    state["tracker_model.memory.weight"] = state["tracker_neck.0.bias"] = torch.zeros(3)
    assign_weights(build_detector(tiny_config()), from_huggingface(state), "test")


def test_a_missing_layer_is_an_error_when_weights_are_assigned() -> None:
    state = {k: v for k, v in foreign_state().items() if not k.startswith("detr_decoder.box_head")}
    with pytest.raises(CheckpointError, match="6 missing .*decoder.box_head.layers.0.bias"):
        assign_weights(build_detector(tiny_config()), from_huggingface(state), "test")


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CheckpointError, match="the Hugging Face layout has no model.embed_tokens.weight"):
        from_huggingface({"model.embed_tokens.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="no exemplar encoder"):
        from_huggingface({})


def test_an_empty_config_is_the_released_model() -> None:
    assert config_from_huggingface({}) == PRESETS["sam3"]
    assert config_from_huggingface({"detector_config": {"model_type": "sam3"}}) == PRESETS["sam3"]


def test_sizes_are_taken_from_the_config() -> None:
    config = config_from_huggingface(
        {
            "vision_config": {
                "fpn_hidden_size": 64,
                "backbone_config": {
                    "hidden_size": 32,
                    "num_attention_heads": 4,
                    "num_hidden_layers": 3,
                    "patch_size": [7, 7],
                    "pretrain_image_size": 70,
                    "window_size": 5,
                    "global_attn_indexes": [2],
                    "rope_theta": 100.0,
                },
            },
            "text_config": {"hidden_size": 48, "hidden_act": "gelu", "max_position_embeddings": 16},
            "geometry_encoder_config": {"hidden_size": 64, "num_layers": 1, "roi_size": 5},
            "detr_encoder_config": {"hidden_size": 64, "num_layers": 2, "intermediate_size": 100},
            "detr_decoder_config": {
                "hidden_size": 64,
                "num_queries": 7,
                "intermediate_size": 90,
                "dropout": 0,
            },
            "mask_decoder_config": {"hidden_size": 64, "num_upsampling_stages": 2, "num_attention_heads": 4},
        }
    )
    assert config.width == 64
    assert (config.vision.kind, config.vision.patch_size, config.vision.position_grid) == ("vit", 7, 10)  # type: ignore[union-attr]
    assert (config.vision.global_blocks, config.vision.rope_theta) == ((2,), 100.0)  # type: ignore[union-attr]
    # What a text config leaves out is filled up from CLIP's defaults, as `transformers` does.
    assert (config.text.width, config.text.context_length, config.text.depth) == (48, 16, 12)
    assert (config.exemplar.layers, config.exemplar.roi_size) == (1, 5)
    assert (config.fusion.layers, config.fusion.mlp_width) == (2, 100)
    assert (config.decoder.queries, config.decoder.mlp_width, config.scoring.mlp_width) == (7, 90, 90)
    assert (config.decoder.dropout, config.mask_head.heads, config.mask_head.upsampling_stages) == (0.0, 4, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"text_config": {"hidden_size": 1024}},
            "text_config.hidden_act .* is 'quick_gelu'; this network needs 'gelu'",
        ),
        ({"detr_encoder_config": {"hidden_size": 128}}, "detr_encoder_config.hidden_size .* is 128"),
        ({"detr_decoder_config": {"hidden_act": "gelu"}}, "detr_decoder_config.hidden_act .* needs 'relu'"),
        (
            {"vision_config": {"backbone_config": {"layer_norm_eps": 1e-3}}},
            "layer_norm_eps .* needs 1e-06 or 1e-05",
        ),
        ({"vision_config": {"backbone_config": {"layer_scale_init_value": 0.1}}}, "layer_scale_init_value"),
        ({"vision_config": {"backbone_config": {"patch_size": [14, 16]}}}, "only squares"),
    ],
)
def test_what_this_network_cannot_be_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_huggingface(config)
