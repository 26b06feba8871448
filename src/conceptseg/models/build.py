"""Config -> network: the only place that maps names to classes."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.models.config import (
    AnyExemplarConfig,
    AnyVisionConfig,
    DetectorConfig,
    MobileClipTextConfig,
    TextConfig,
)
from conceptseg.models.decoder import Decoder
from conceptseg.models.detector import Detector
from conceptseg.models.exemplar.adaptive import AdaptiveEncoder
from conceptseg.models.exemplar.bridge import BridgedEncoder
from conceptseg.models.exemplar.encoder import ExemplarEncoder
from conceptseg.models.exemplar.roi import RoiExemplarEncoder
from conceptseg.models.exemplar.roi_transformer import RoiTransformerEncoder
from conceptseg.models.exemplar.unified import UnifiedEncoder
from conceptseg.models.fusion_encoder import FusionEncoder
from conceptseg.models.mask_head import MaskHead
from conceptseg.models.scoring import DotProductScoring
from conceptseg.models.text.clip import TextEncoder
from conceptseg.models.text.mobileclip import MobileClipText
from conceptseg.models.vision.convnet import ConvNet
from conceptseg.models.vision.neck import Neck
from conceptseg.models.vision.student import Student
from conceptseg.models.vision.timm_trunk import TimmTrunk
from conceptseg.models.vision.vit import VisionTransformer

VISION_ENCODERS: dict[str, type[nn.Module]] = {
    "vit": VisionTransformer,
    "convnet": ConvNet,
    "timm": TimmTrunk,
    "student": Student,
}
TEXT_ENCODERS: dict[str, type[TextEncoder | MobileClipText]] = {
    "clip": TextEncoder,
    "mobileclip": MobileClipText,
}
EXEMPLAR_ENCODERS: dict[str, type[ExemplarEncoder]] = {
    "roi": RoiExemplarEncoder,  # official weights load here
    "roi_transformer": RoiTransformerEncoder,
    "unified": UnifiedEncoder,
    "bridge": BridgedEncoder,
    "adaptive": AdaptiveEncoder,
}


def build_detector(config: DetectorConfig) -> Detector:
    """A detector with fresh weights.

    Raises:
        ConfigError: parts that do not go together.
    """
    if config.fusion.levels > 1 and config.decoder.box_bias:
        raise ConfigError("decoder.box_bias needs fusion.levels = 1: the bias is laid out for one map")
    vision = build_vision_encoder(config.vision)
    detector = Detector(
        config=config,
        vision_encoder=vision,
        neck=Neck(channels=vision.channels, width=config.width, **_arguments(config.neck)),  # type: ignore[arg-type]
        text_encoder=build_text_encoder(config.text, config.width),
        exemplar_encoder=build_exemplar_encoder(config.exemplar, config.width),
        fusion_encoder=FusionEncoder(width=config.width, **_arguments(config.fusion)),
        decoder=_build_decoder(config),
        scoring=DotProductScoring(width=config.width, **_arguments(config.scoring)),
        mask_head=MaskHead(width=config.width, **_arguments(config.mask_head)),
    )
    if not detector.decoder.query_embedding.is_meta:  # without memory there is nothing to start with values
        _initialise(detector)
        if config.decoder.reference_grid:
            detector.decoder.start_on_grid()
    return detector


def build_vision_encoder(config: AnyVisionConfig) -> nn.Module:
    """The trunk alone; `.channels` describes its output maps."""
    return VISION_ENCODERS[config.kind](**_arguments(config))


def build_text_encoder(config: TextConfig | MobileClipTextConfig, width: int) -> TextEncoder | MobileClipText:
    """Token ids -> prompt tokens of the detector's width."""
    return TEXT_ENCODERS[config.kind](output_width=width, **_arguments(config))


def build_exemplar_encoder(config: AnyExemplarConfig, width: int) -> ExemplarEncoder:
    """Boxes on the image -> prompt tokens of the detector's width."""
    return EXEMPLAR_ENCODERS[config.kind](width=width, **_arguments(config))


def _build_decoder(config: DetectorConfig) -> Decoder:
    arguments = _arguments(config.decoder)
    del arguments["reference_grid"]  # a way to start, not a part of the module
    presence = {f"presence_{name}": value for name, value in _arguments(config.presence).items()}
    return Decoder(width=config.width, **arguments, **presence)


def _arguments(config: Any) -> dict[str, Any]:
    fields = dataclasses.fields(config)
    return {f.name: getattr(config, f.name) for f in fields if f.name != "kind"}


def _initialise(detector: Detector) -> None:
    """Xavier for the matrices of the transformers, as in the official code; not for boxes and queries."""
    kept = ["query_embedding", "reference_points", "box_head", "label_embedding"]
    if detector.config.decoder.reference_grid:
        kept.append("box_bias")  # starts inside the boxes instead
    for part in (detector.exemplar_encoder, detector.fusion_encoder, detector.decoder):
        for name, parameter in part.named_parameters():
            if parameter.dim() > 1 and not any(word in name for word in kept):
                nn.init.xavier_uniform_(parameter)
