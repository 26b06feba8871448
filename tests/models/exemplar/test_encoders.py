"""What every exemplar encoder promises, whatever its kind."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from conceptseg.checkpoints.convert import check_target
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.errors import CheckpointError, ConfigError, PromptError
from conceptseg.models.build import EXEMPLAR_ENCODERS, build_detector, build_exemplar_encoder
from conceptseg.models.config import (
    AdaptiveConfig,
    AnyExemplarConfig,
    BridgeConfig,
    DetectorConfig,
    ExemplarConfig,
    ModelConfig,
    RoiTransformerConfig,
    UnifiedConfig,
)
from conceptseg.models.exemplar.encoder import ExemplarEncoder, ExemplarTrace
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.models.prompts import GeometricPrompt, PromptTokens
from tests.conftest import TINY, make_tiny_segmenter
from tests.models.tiny import randomise

WIDTH = 16
SIZES = {"layers": 2, "heads": 2, "mlp_width": 24, "roi_size": 3, "dropout": 0.0}
CONFIGS: dict[str, AnyExemplarConfig] = {
    "roi": ExemplarConfig(**SIZES),
    "roi_transformer": RoiTransformerConfig(**SIZES),
    "unified": UnifiedConfig(**SIZES),
    "bridge": BridgeConfig(**SIZES),
    "adaptive": AdaptiveConfig(**SIZES),
    "adaptive without context": AdaptiveConfig(**SIZES, context=False),
    "adaptive without kernels": AdaptiveConfig(**SIZES, kernels=()),
    "adaptive without selector": AdaptiveConfig(**SIZES, selector=False),
    "adaptive without modulator": AdaptiveConfig(**SIZES, modulator=False),
    "bridge, early": BridgeConfig(**SIZES, joints=("early",)),
    "bridge, middle": BridgeConfig(**SIZES, joints=("middle",)),
    "bridge, middle and late": BridgeConfig(**SIZES, joints=("middle", "late")),
}
BOXES = torch.tensor([[[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.3, 0.2], [0.5, 0.5, 0.9, 0.8]]])
LABELS = torch.tensor([[1, 0, 1]])
PROMPT = GeometricPrompt(BOXES, LABELS)


@pytest.fixture(params=CONFIGS)
def encoder(request: pytest.FixtureRequest) -> ExemplarEncoder:
    module = build_exemplar_encoder(CONFIGS[request.param], WIDTH).eval()
    randomise(module)
    return module


def features(images: int = 2, height: int = 6, width: int = 8) -> Tensor:
    return torch.randn(images, WIDTH, height, width, generator=torch.Generator().manual_seed(4))


def encode(
    module: ExemplarEncoder, prompt: GeometricPrompt | None, index: list[int], maps: Tensor | None = None
) -> PromptTokens:
    maps = features() if maps is None else maps
    return module(maps, sine_of_map(*maps.shape[-2:], WIDTH, maps.device), torch.tensor(index), prompt)


def test_every_kind_can_be_chosen_by_name() -> None:
    assert {config.kind for config in CONFIGS.values()} == set(EXEMPLAR_ENCODERS)
    with pytest.raises(ConfigError, match=r"exemplar.kind is 'rio'; choose 'roi', .*'adaptive'"):
        DetectorConfig.from_dict({"exemplar": {"kind": "rio"}})
    with pytest.raises(ConfigError, match="unknown key 'context'"):
        DetectorConfig.from_dict({"exemplar": {"kind": "bridge", "context": False}})
    assert DetectorConfig.from_dict({"exemplar": {"layers": 1}}).exemplar == ExemplarConfig(layers=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "bridge", "joints": []}, "name some of early, middle and late, in order"),
        ({"kind": "bridge", "joints": ["late", "early"]}, "in order"),
        ({"kind": "bridge", "joints": ["first"]}, "choose 'early', 'middle', 'late'"),
        ({"kind": "adaptive", "kernels": [4]}, "give odd numbers of cells, or none"),
    ],
)
def test_parts_that_do_not_exist_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectorConfig.from_dict({"exemplar": values})


def test_a_bridge_takes_only_what_its_joints_give() -> None:
    """A joint that is left out has no weights, and the mean is over the others."""
    whole, part = (
        build_exemplar_encoder(CONFIGS[name], WIDTH) for name in ("bridge", "bridge, middle and late")
    )
    gone = {name.split(".")[0] for name in set(whole.state_dict()) - set(part.state_dict())}
    assert gone == {"early"}
    trace = part.trace(features(), sine_of_map(6, 8, WIDTH, torch.device("cpu")), torch.tensor([0]), PROMPT)
    assert trace.level_weights is not None and trace.level_weights.tolist() == [0.5, 0.5]


def test_without_kernels_or_a_selector_there_is_nothing_to_draw() -> None:
    for name, kernels, context in (
        ("adaptive", True, True),
        ("adaptive without kernels", False, True),
        ("adaptive without selector", True, False),
    ):
        module = build_exemplar_encoder(CONFIGS[name], WIDTH)
        trace = module.trace(
            features(), sine_of_map(6, 8, WIDTH, torch.device("cpu")), torch.tensor([0]), PROMPT
        )
        assert (trace.branch_weights is not None, trace.context is not None) == (kernels, context), name


def test_one_token_per_box_and_a_closing_one(encoder: ExemplarEncoder) -> None:
    tokens = encode(encoder, GeometricPrompt(BOXES, LABELS), [0])
    assert tokens.tokens.shape == (4, 1, WIDTH) and tokens.tokens.isfinite().all()
    assert tokens.padding_mask.shape == (1, 4) and not tokens.padding_mask.any()


def test_without_boxes_the_closing_token_stands_alone(encoder: ExemplarEncoder) -> None:
    alone = encode(encoder, None, [0, 1])
    assert alone.tokens.shape == (1, 2, WIDTH) and not alone.padding_mask.any()
    no_boxes = GeometricPrompt(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long))
    torch.testing.assert_close(encode(encoder, no_boxes, [0, 1]).tokens, alone.tokens)
    alone.tokens.sum().backward()  # the empty attention has a gradient too


@pytest.mark.parametrize("held", (0.0, 7.5, float("nan")))
def test_padded_boxes_change_nothing_whatever_they_hold(encoder: ExemplarEncoder, held: float) -> None:
    bare = encode(encoder, GeometricPrompt(BOXES[:, :2], LABELS[:, :2]), [0]).tokens
    padded = GeometricPrompt(
        torch.cat((BOXES[:, :2], torch.full((1, 2, 4), held)), dim=1),
        torch.tensor([[1, 0, 1, 0]]),
        torch.tensor([[False, False, True, True]]),
    )
    tokens = encode(encoder, padded, [0])
    assert tokens.padding_mask.tolist() == [[False, False, True, True, False]]
    torch.testing.assert_close(tokens.tokens[[0, 1, 4]], bare, atol=1e-5, rtol=1e-5)


def test_a_pair_of_padding_alone_equals_no_boxes(encoder: ExemplarEncoder) -> None:
    prompt = GeometricPrompt(BOXES, LABELS, torch.ones(1, 3, dtype=torch.bool))
    closing = encode(encoder, prompt, [0]).tokens[-1]
    torch.testing.assert_close(closing, encode(encoder, None, [0]).tokens[-1], atol=1e-5, rtol=1e-5)


def test_the_order_of_boxes_only_reorders_tokens(encoder: ExemplarEncoder) -> None:
    order = torch.tensor([2, 0, 1])
    straight = encode(encoder, GeometricPrompt(BOXES, LABELS), [0]).tokens
    shuffled = encode(encoder, GeometricPrompt(BOXES[:, order], LABELS[:, order]), [0]).tokens
    torch.testing.assert_close(shuffled[:3], straight[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shuffled[3], straight[3], atol=1e-5, rtol=1e-5)


def test_a_negative_box_says_something_else_than_a_positive_one(encoder: ExemplarEncoder) -> None:
    positive = encode(encoder, GeometricPrompt(BOXES, torch.tensor([[1, 1, 1]])), [0]).tokens
    mixed = encode(encoder, GeometricPrompt(BOXES, torch.tensor([[1, 0, 1]])), [0]).tokens
    assert (positive[1] - mixed[1]).abs().max() > 1e-2


def test_tokens_depend_on_what_lies_under_the_box(encoder: ExemplarEncoder) -> None:
    prompt = GeometricPrompt(BOXES.expand(2, -1, -1), LABELS.expand(2, -1))
    tokens = encode(encoder, prompt, [1, 0]).tokens
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-2
    alone = encode(encoder, GeometricPrompt(BOXES, LABELS), [0], features()[1:]).tokens
    torch.testing.assert_close(tokens[:, :1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size_hw", ((3, 3), (16, 12), (1, 1)))
def test_any_map_size_will_do(encoder: ExemplarEncoder, size_hw: tuple[int, int]) -> None:
    tokens = encode(encoder, GeometricPrompt(BOXES, LABELS), [0], features(1, *size_hw))
    assert tokens.tokens.shape == (4, 1, WIDTH) and tokens.tokens.isfinite().all()


def test_two_hundred_boxes_are_as_good_as_one(encoder: ExemplarEncoder) -> None:
    many = torch.rand(1, 200, 4, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
    tokens = encode(encoder, GeometricPrompt(many, torch.ones(1, 200, dtype=torch.long)), [0]).tokens
    assert tokens.shape == (201, 1, WIDTH) and tokens.isfinite().all()


@pytest.mark.parametrize("way", ("autocast", "weights"))
def test_bfloat16_gives_nearly_the_same_tokens(encoder: ExemplarEncoder, way: str) -> None:
    prompt = GeometricPrompt(BOXES, LABELS)
    exact = encode(encoder, prompt, [0]).tokens
    if way == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            rough = encode(encoder, prompt, [0]).tokens
    else:
        rough = encode(copy.deepcopy(encoder).to(torch.bfloat16), prompt, [0], features().bfloat16()).tokens
    assert (rough.float() - exact).abs().mean() < 0.1


def test_gradients_reach_every_weight_and_the_image(encoder: ExemplarEncoder) -> None:
    maps = features().requires_grad_()
    encode(encoder, GeometricPrompt(BOXES, LABELS), [0], maps).tokens.pow(2).sum().backward()
    assert maps.grad is not None and maps.grad[0].abs().sum() > 0 and maps.grad[1].abs().sum() == 0
    unused = [name for name, value in encoder.named_parameters() if value.grad is None]
    assert [name for name in unused if not name.startswith("point_")] == []


def test_points_are_taken_by_the_released_form_alone(encoder: ExemplarEncoder) -> None:
    prompt = GeometricPrompt(points_xy=torch.tensor([[[0.2, 0.3]]]), point_labels=torch.tensor([[1]]))
    if type(encoder) is EXEMPLAR_ENCODERS["roi"]:
        assert encode(encoder, prompt, [0]).tokens.shape == (2, 1, WIDTH)
    else:
        with pytest.raises(PromptError, match="takes boxes only; points need kind"):
            encode(encoder, prompt, [0])


@pytest.mark.slow
def test_the_program_is_the_same_for_any_number_of_boxes(encoder: ExemplarEncoder) -> None:
    class Alone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, maps: Tensor, boxes: Tensor, labels: Tensor, padding: Tensor) -> Tensor:
            place = sine_of_map(6, 8, WIDTH, maps.device)
            index = torch.zeros(boxes.shape[0], dtype=torch.long)
            return self.encoder(maps, place, index, GeometricPrompt(boxes, labels, padding)).tokens

    count = torch.export.Dim("count", min=1, max=64)
    exported = torch.export.export(
        Alone().eval(),
        (features(1), BOXES, LABELS, torch.zeros_like(LABELS, dtype=torch.bool)),
        dynamic_shapes=(None, {1: count}, {1: count}, {1: count}),
    ).module()
    for boxes in (BOXES, BOXES.repeat(1, 2, 1)):
        labels = torch.ones(boxes.shape[:2], dtype=torch.long)
        padding = torch.zeros_like(labels, dtype=torch.bool)
        expected = encode(encoder, GeometricPrompt(boxes, labels), [0], features(1)).tokens
        torch.testing.assert_close(exported(features(1), boxes, labels, padding), expected)


def trace(kind: str, maps: Tensor | None = None) -> ExemplarTrace:
    module = build_exemplar_encoder(CONFIGS[kind], WIDTH).eval()
    randomise(module)
    maps = features() if maps is None else maps
    place = sine_of_map(*maps.shape[-2:], WIDTH, maps.device)
    return module.trace(maps, place, torch.tensor([0]), GeometricPrompt(BOXES, LABELS))


def test_the_bridge_tells_its_gates_and_the_weights_of_its_levels() -> None:
    told = trace("bridge")
    assert told.gate is not None and told.level_weights is not None and told.context is None
    assert told.gate.shape == (1, 3, WIDTH) and 0 < told.gate.min() and told.gate.max() < 1
    torch.testing.assert_close(told.level_weights.sum(), torch.tensor(1.0))


def test_the_adaptive_encoder_tells_what_it_picked() -> None:
    told = trace("adaptive")
    assert told.context is not None and told.branch_weights is not None and told.gate is None
    assert told.context.shape == (1, 3, 6, 8)
    torch.testing.assert_close(told.context.sum((2, 3)), torch.ones(1, 3))
    torch.testing.assert_close(told.branch_weights.sum(-1), torch.ones(1, 3))
    assert trace("adaptive without context").context is None


def test_context_is_picked_near_the_box_where_all_tokens_are_alike() -> None:
    maps = torch.ones(1, WIDTH, 6, 8)
    module = build_exemplar_encoder(CONFIGS["adaptive"], WIDTH).eval()
    randomise(module)
    corner = GeometricPrompt(torch.tensor([[[0.125, 0.1667, 0.25, 0.3333]]]), torch.tensor([[1]]))
    told = module.trace(maps, torch.zeros(WIDTH, 6, 8), torch.tensor([0]), corner)
    assert told.context is not None
    picked = told.context[0, 0]
    torch.testing.assert_close(picked[:2, :2], picked[0, 0].expand(2, 2))  # inside, all the same
    assert picked[0, 0] > picked[0, 3] > picked[0, 7] and picked[0, 0] > picked[3, 0] > picked[5, 0]


@pytest.mark.parametrize("kind", ("unified", "bridge"))
def test_a_whole_detector_of_another_kind_segments_and_is_kept_in_a_folder(kind, picture, tmp_path) -> None:
    made = make_tiny_segmenter()
    exemplar = dataclasses.replace(CONFIGS[kind], roi_size=7)
    config = dataclasses.replace(made.config, architecture=dataclasses.replace(TINY, exemplar=exemplar))
    segmenter = type(made)(build_detector(config.architecture), made.tokenizer, config)
    result = segmenter.segment(picture, boxes=[[10, 10, 40, 40]], threshold=0)
    assert len(result) == 12
    save_model_folder(tmp_path / "model", segmenter.detector, segmenter.tokenizer, config)
    detector, _, loaded = load_model_folder(tmp_path / "model")
    assert loaded.architecture.exemplar == exemplar
    assert type(detector.exemplar_encoder) is EXEMPLAR_ENCODERS[kind]


@pytest.mark.parametrize("to", ("official", "hf"))
def test_released_layouts_refuse_the_kinds_they_do_not_know(to) -> None:
    vit = DetectorConfig(exemplar=BridgeConfig())
    with pytest.raises(CheckpointError, match="no exemplar encoder of kind 'bridge'"):
        check_target(ModelConfig(vit), to)
    check_target(ModelConfig(DetectorConfig()), to)
