"""Every part that a config can name exports, at reduced size: traced once, compared at other sizes."""

import dataclasses

import pytest
import torch

from conceptseg.export.check import check_graph
from conceptseg.export.graphs import DetectorGraph, ExemplarGraph, TextGraph, VisionGraph
from conceptseg.export.to_onnx import write_graph
from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    AdaptiveConfig,
    BridgeConfig,
    MobileClipTextConfig,
    NeckConfig,
    RoiTransformerConfig,
    StudentConfig,
    TimmConfig,
    UnifiedConfig,
)
from tests.models.tiny import GRID, RESOLUTION, TINY, randomise, tiny_detector

LEVELS_HW = {f"level_{i}": (scale * GRID, scale * GRID) for i, scale in enumerate((4, 2, 1))}


def assert_exports(graph, path):
    graph.eval()
    write_graph(graph, path)
    found = check_graph(graph, path, graph.examples(seed=7))  # raises when one drifts
    assert list(found) == graph.outputs


def test_the_vision_transformer_exports(tmp_path):
    assert_exports(VisionGraph(tiny_detector(), RESOLUTION), tmp_path / "vision.onnx")


@pytest.mark.slow
def test_the_released_detector_exports(tmp_path):
    assert_exports(DetectorGraph(tiny_detector(), LEVELS_HW), tmp_path / "detector.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["repvit_m0_9", "tinyvit_5m", "efficientvit_b0"])
def test_one_student_of_each_family_exports(tmp_path, backbone):
    vision = StudentConfig(backbone=backbone, head_width=16)
    detector = build_detector(dataclasses.replace(TINY, vision=vision, neck=NeckConfig())).eval()
    randomise(detector.neck)
    assert_exports(VisionGraph(detector, 224), tmp_path / "vision.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet18"])
def test_a_timm_trunk_under_the_pyramid_exports(tmp_path, network):
    vision = TimmConfig(network=network, pyramid_width=16)
    neck = NeckConfig(scales=(1.0, 1.0, 1.0), drop_last=0, per_level=True, normalise=True)
    detector = build_detector(dataclasses.replace(TINY, vision=vision, neck=neck)).eval()
    randomise(detector.neck)
    assert_exports(VisionGraph(detector, 64), tmp_path / "vision.onnx")


@pytest.mark.slow
def test_linear_attention_that_meets_nothing_exports(tmp_path):
    """Zero over zero plus 1e-15: the exporter used to leave out so small a number."""
    vision = StudentConfig(backbone="efficientvit_b0", head_width=16)
    detector = build_detector(dataclasses.replace(TINY, vision=vision, neck=NeckConfig())).eval()
    randomise(detector.neck)
    products = [p for name, p in detector.vision_encoder.named_parameters() if ".qkv." in name]
    assert len(products) == 4
    for weight in products:
        torch.nn.init.zeros_(weight)
    assert_exports(VisionGraph(detector, 224), tmp_path / "vision.onnx")


@pytest.mark.parametrize("rep_mixer", [True, False])
def test_mobileclip_exports(tmp_path, rep_mixer):
    text = MobileClipTextConfig(
        vocab_size=60, context_length=8, width=24, depth=1, heads=2, mlp_width=40, rep_mixer=rep_mixer
    )
    detector = build_detector(dataclasses.replace(TINY, text=text)).eval()
    randomise(detector.text_encoder)
    assert_exports(TextGraph(detector), tmp_path / "text.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [RoiTransformerConfig, UnifiedConfig, BridgeConfig, AdaptiveConfig])
def test_every_exemplar_encoder_exports(tmp_path, kind):
    exemplar = kind(layers=1, heads=4, mlp_width=40, roi_size=3, dropout=0.0)
    detector = build_detector(dataclasses.replace(TINY, exemplar=exemplar)).eval()
    randomise(detector.exemplar_encoder)
    assert_exports(ExemplarGraph(detector, LEVELS_HW), tmp_path / "exemplar.onnx")


def test_regions_are_pooled_as_torchvision_pools_them(tmp_path):
    """Boxes that reach over the edge, thin ones, and none of them clamped."""
    detector = tiny_detector()
    graph = ExemplarGraph(detector, LEVELS_HW).eval()
    write_graph(graph, tmp_path / "exemplar.onnx")
    level, index, _, labels, padding = graph.examples(seed=1, images=2, prompts=2, boxes=3)
    boxes = torch.tensor(
        [
            [[0.02, 0.5, 0.3, 0.9], [0.5, 0.98, 0.9, 0.2], [0.5, 0.5, 1.0, 1.0]],
            [[0.5, 0.5, 0.01, 0.8], [0.3, 0.3, 0.004, 0.004], [0.9, 0.1, 0.4, 0.4]],
        ]
    )
    arguments = [level, index, boxes, labels, padding]
    assert check_graph(graph, tmp_path / "exemplar.onnx", arguments)["tokens"] < 1e-4
