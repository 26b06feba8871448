"""Learning rates and groups, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.models.build import build_detector
from conceptseg.train.recipe import ModelChoice
from conceptseg.train.run_config import OptimiserConfig
from conceptseg.train.schedule import build_optimiser, rate_factor
from tests.train.tiny import TINY


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # the first step already learns
        (1, 0.5),
        (3, 1.0),
        (4, 1.0),  # the cosine starts at its top
        (8, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))),  # 4 of 16 steps after the warm-up
        (12, 0.55),  # half way
        (20, 0.1),
        (25, 0.1),  # past the end it stays
    ],
)
def test_the_rate_rises_linearly_and_falls_by_half_a_cosine(step: int, expected: float) -> None:
    config = OptimiserConfig(warmup_steps=4, final_lr=0.1)
    assert rate_factor(step, 20, config) == pytest.approx(expected)


def test_without_a_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert rate_factor(0, 10, OptimiserConfig(warmup_steps=0)) == 1.0


def test_a_run_shorter_than_its_warm_up_only_warms_up() -> None:
    config = OptimiserConfig(warmup_steps=300)
    assert [rate_factor(step, 3, config) for step in range(3)] == pytest.approx([1 / 300, 2 / 300, 3 / 300])


def test_a_schedule_longer_than_the_run_is_left_early() -> None:
    config = OptimiserConfig(warmup_steps=4, final_lr=0.1, schedule_steps=20)
    assert rate_factor(12, 13, config) == pytest.approx(0.55)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vision_encoder = nn.Linear(2, 3)
        self.head = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.token_embedding = nn.Embedding(5, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def groups_of(model: nn.Module, config: OptimiserConfig) -> dict[tuple[float, float], set[str]]:
    """(peak rate, weight decay) -> parameter names."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimiser(model, config).param_groups
    assert all(group["lr"] == group["peak_lr"] for group in groups)
    return {(g["peak_lr"], g["weight_decay"]): {names[p] for p in g["params"]} for g in groups}


def test_only_matrices_decay_and_frozen_parameters_are_left_out() -> None:
    assert groups_of(Model(), OptimiserConfig(lr=1e-3, weight_decay=0.1)) == {
        (1e-3, 0.1): {"vision_encoder.weight", "head.weight"},
        (1e-3, 0.0): {
            "vision_encoder.bias",
            "head.bias",
            "norm.weight",
            "norm.bias",
            "token_embedding.weight",
        },
    }


def test_the_vision_encoder_can_have_a_rate_of_its_own() -> None:
    assert groups_of(Model(), OptimiserConfig(lr=1e-3, vision_lr=1e-4, weight_decay=0.1)) == {
        (1e-4, 0.1): {"vision_encoder.weight"},
        (1e-4, 0.0): {"vision_encoder.bias"},
        (1e-3, 0.1): {"head.weight"},
        (1e-3, 0.0): {"head.bias", "norm.weight", "norm.bias", "token_embedding.weight"},
    }


def test_parts_can_have_rates_of_their_own_and_the_innermost_decides() -> None:
    rates = {"token_embedding": 0.1, "vision_encoder": 0.5, "vision_encoder.bias": 2.0}
    assert groups_of(Model(), OptimiserConfig(lr=1.0, part_rates=rates, weight_decay=0.1)) == {
        (0.5, 0.1): {"vision_encoder.weight"},
        (2.0, 0.0): {"vision_encoder.bias"},
        (0.1, 0.0): {"token_embedding.weight"},
        (1.0, 0.1): {"head.weight"},
        (1.0, 0.0): {"head.bias", "norm.weight", "norm.bias"},
    }


def test_a_rate_for_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="part_rates names 'eyes'"):
        build_optimiser(Model(), OptimiserConfig(part_rates={"eyes": 1.0}))
    with pytest.raises(ConfigError, match="optimiser.part_rates.head is 0"):
        OptimiserConfig(part_rates={"head": 0})


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is left to train"):
        build_optimiser(Model().requires_grad_(False), OptimiserConfig())


def test_every_parameter_of_a_detector_is_in_one_group_and_tables_do_not_decay() -> None:
    detector = build_detector(ModelChoice(architecture=TINY["model"]["architecture"]).detector_config())
    groups = groups_of(detector, OptimiserConfig())
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in detector.named_parameters())
    still = groups[OptimiserConfig().lr, 0.0]
    for table in ("decoder.query_embedding", "decoder.reference_points", "decoder.presence_token"):
        assert table in still
    assert {"text_encoder.token_embedding.weight", "text_encoder.position_embedding"} <= still


def test_a_gradient_as_small_as_rounding_makes_no_whole_step() -> None:
    weights = nn.Parameter(torch.zeros(2))
    model = nn.Module()
    model.weights = weights
    optimiser = build_optimiser(model, OptimiserConfig(lr=1.0, weight_decay=0.0))
    weights.grad = torch.tensor([1e-3, 1e-9])
    optimiser.step()
    assert weights.tolist() == pytest.approx([-1.0, -0.01], rel=0.02)
