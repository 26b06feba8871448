"""Configs: strict, round, and of the released size."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from conceptseg.errors import ConfigError
from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    ConvNetConfig,
    DetectorConfig,
    MaskHeadConfig,
    ModelConfig,
    NeckConfig,
    PresenceCalibration,
    ViTConfig,
    config_from_dict,
)
from conceptseg.models.presets import PRESETS

# Of the released image model (840,509,750), less what no output depends on: the projection of the text tower
# (1024 x 512), and the position of a class token that is dropped (1024).
RELEASED = {
    "vision_encoder": 446_237_696 - 1_024,
    "neck": 7_802_112,
    "text_encoder": 353_724_672 - 524_288,
    "exemplar_encoder": 8_215_808,
    "fusion_encoder": 9_472_512,
    "decoder": 11_575_093,
    "mask_head": 2_298_881,
    "scoring": 1_182_976,
}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_preset_sam3_has_the_released_sizes() -> None:
    with torch.device("meta"):
        detector = build_detector(PRESETS["sam3"])
    assert {name: count(part) for name, part in detector.named_children()} == RELEASED
    assert count(detector) == 839_984_438 == 840_509_750 - 524_288 - 1_024


def test_nano_fits_into_sixteen_mebibytes_in_half_precision() -> None:
    with torch.device("meta"):
        detector = build_detector(PRESETS["nano"])
    assert 2 * sum(v.numel() for v in detector.state_dict().values()) < 16 * 2**20


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    values = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert DetectorConfig.from_dict(values) == PRESETS[name]


def test_a_model_config_survives_json() -> None:
    config = ModelConfig(
        architecture=PRESETS["nano"],
        presence_calibration=PresenceCalibration(1.5, -0.25),
        presence_mode="calibrated",
        provenance={"name": "nano", "figures": {"cgf1": 0.5}, "steps": 3, "notes": ["a", None]},
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_fields_keep_their_defaults() -> None:
    assert DetectorConfig.from_dict({}) == DetectorConfig()
    assert DetectorConfig.from_dict({"decoder": {"layers": 2}}).decoder.queries == 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 3}, "architecture has unknown key 'widht'"),
        ({"decoder": {"layer": 3}}, "architecture.decoder has unknown key 'layer'"),
        ({"vision": {"kind": "vit", "depths": 3}}, "architecture.vision has unknown key 'depths'"),
        ({"vision": {"kind": "resnet"}}, "architecture.vision.kind is 'resnet'; choose 'vit', 'convnet'"),
        ({"vision": {}}, "architecture.vision.kind is None"),
        ({"vision": {"kind": {"a": 1}}}, "architecture.vision.kind is {'a': 1}"),
        ({"decoder": {"layers": "six"}}, "architecture.decoder.layers must be int, got 'six'"),
        ({"decoder": {"layers": True}}, "architecture.decoder.layers must be int, got True"),
        ({"decoder": {"layers": False}}, "architecture.decoder.layers must be int, got False"),
        ({"decoder": {"layers": None}}, "architecture.decoder.layers must be int, got None"),
        ({"decoder": {"box_bias": 1}}, "architecture.decoder.box_bias must be bool, got 1"),
        ({"decoder": {"dropout": True}}, "architecture.decoder.dropout must be float, got True"),
        ({"neck": {"scales": 4.0}}, "architecture.neck.scales must be a list, got 4.0"),
        ({"neck": {"scales": [4.0, "2"]}}, r"architecture.neck.scales\[1\] must be float, got '2'"),
        (
            {"fusion": {"pool_prompt": "max"}},
            "architecture.fusion.pool_prompt is 'max'; choose 'none', 'mean'",
        ),
        ({"decoder": [1]}, "architecture.decoder must be a mapping, got list"),
        ({"width": 30}, "width = 30 is not a multiple of exemplar.heads = 8"),
    ],
)
def test_mistakes_are_named_with_their_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectorConfig.from_dict(values)


def test_a_list_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="config.preprocessing.mean must be a list of 3"):
        ModelConfig.from_dict({"preprocessing": {"mean": [0.5, 0.5]}})


def test_whole_numbers_are_welcome_where_fractions_are_expected() -> None:
    scale = config_from_dict(PresenceCalibration, {"scale": 2}, "calibration").scale
    assert scale == 2.0 and isinstance(scale, float)


def test_none_is_welcome_where_it_means_something() -> None:
    assert DetectorConfig.from_dict({"scoring": {"logit_limit": None}}).scoring.logit_limit is None
    assert DetectorConfig.from_dict({"presence": {"logit_limit": 10}}).presence.logit_limit == 10.0


def test_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="fusion.levels = 4; the neck gives 3 levels"):
        DetectorConfig.from_dict({"fusion": {"levels": 4}})
    with pytest.raises(ConfigError, match="upsampling_stages = 1; 3 levels need 2"):
        DetectorConfig(mask_head=MaskHeadConfig(upsampling_stages=1))
    with pytest.raises(ConfigError, match="group_norm_groups = 7"):
        DetectorConfig(mask_head=MaskHeadConfig(group_norm_groups=7))
    with pytest.raises(ConfigError, match="fusion.levels = 1; the neck gives 0 levels"):
        DetectorConfig(neck=NeckConfig(drop_last=4))


def test_strides_say_which_image_sizes_fit() -> None:
    assert ViTConfig().stride == 14 and ConvNetConfig().stride == 32


def test_a_margin_below_nothing_is_refused() -> None:
    assert ModelConfig.from_dict({"mask_margin": 1}).mask_margin == 1.0
    for wrong in (-0.1, float("nan"), float("inf"), "wide"):
        with pytest.raises(ConfigError, match="mask_margin"):
            ModelConfig.from_dict({"mask_margin": wrong})
