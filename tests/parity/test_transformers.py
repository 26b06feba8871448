"""Our detector against `transformers`' Sam3Model, and where we follow the official code instead of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from conceptseg.checkpoints.huggingface import from_huggingface
from conceptseg.checkpoints.huggingface_config import config_from_huggingface
from conceptseg.models.build import build_detector
from conceptseg.models.detector import Detector
from conceptseg.models.presets import PRESETS
from tests.parity.cases import (
    CASES,
    TEXT_ONLY_WITHOUT_DUMMY,
    Case,
    by_name,
    differences,
    run_ours,
    run_transformers,
    tiny_config,
    tiny_pair,
)

transformers = pytest.importorskip("transformers")

TOLERANCES = {
    "class logits": 1e-4,
    "boxes": 1e-4,
    "presence logits": 1e-4,
    "semantic logits": 1e-4,
    "mask logits": 2e-3,
    "memory": 1e-4,
    "reference boxes": 1e-4,
}


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Detector]:
    return tiny_pair()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_outputs_equal_those_of_transformers(pair: tuple[Any, Detector], case: Case) -> None:
    theirs, ours = (run(model, case) for run, model in zip((run_transformers, run_ours), pair, strict=True))
    # Values at a clamp would be equal whatever led to them.
    assert ours["class logits"].abs().max() < 11 and theirs["presence logits"].abs().max() < 10
    for name, difference in differences(theirs, ours).items():
        assert difference <= TOLERANCES[name], f"{name} differ by {difference}"


def test_random_weights_make_every_query_and_prompt_answer_differently(pair: tuple[Any, Detector]) -> None:
    # Without this, equal outputs would prove little.
    outputs = run_ours(pair[1], CASES["padded, ragged batch"])
    assert outputs["class logits"].std(dim=0).min() > 0.05
    assert outputs["class logits"].std(dim=1).min() > 0.05
    assert outputs["presence logits"].std() > 0.1
    assert outputs["mask logits"].std(dim=1).min() > 0.01


def test_several_prompts_on_one_image_equal_transformers_on_copies_of_the_image(
    pair: tuple[Any, Detector],
) -> None:
    theirs, ours = pair
    case = CASES["padded, ragged batch"]
    alone = Case(case.name, case.phrases[:1], case.boxes[:1])

    class SameImage(Case):
        def pixels(self) -> torch.Tensor:
            return alone.pixels().expand(len(self.phrases), -1, -1, -1)

    words = SameImage("words", case.phrases, [[] for _ in case.phrases])
    with torch.no_grad():
        output = ours(alone.pixels(), words.token_ids())
    for name, difference in differences(run_transformers(theirs, words), by_name(output)).items():
        assert difference <= TOLERANCES[name], f"{name} differ by {difference}"


def test_text_alone_carries_the_summary_token_that_transformers_leaves_out(
    pair: tuple[Any, Detector],
) -> None:
    theirs = run_transformers(pair[0], TEXT_ONLY_WITHOUT_DUMMY)
    apart = differences(theirs, run_ours(pair[1], TEXT_ONLY_WITHOUT_DUMMY))
    assert apart["class logits"] > 0.05
    assert apart["mask logits"] > 0.5


def test_presence_logits_are_not_clamped_as_those_of_transformers_are(pair: tuple[Any, Detector]) -> None:
    theirs, ours = tiny_pair()
    with torch.no_grad():
        for head in (theirs.detr_decoder.presence_head.layer3, ours.decoder.presence_head.mlp.layers[-1]):
            head.weight.mul_(50)
            head.bias.mul_(50)
    case = CASES["padded, ragged batch"]
    clamped, free = (
        run_transformers(theirs, case)["presence logits"],
        run_ours(ours, case)["presence logits"],
    )
    assert clamped.abs().max() == 10
    assert free.abs().max() > 12
    torch.testing.assert_close(free.clamp(-10, 10), clamped, atol=1e-4, rtol=0)


def test_the_trunk_runs_with_the_official_epsilon_whatever_transformers_says() -> None:
    assert transformers.Sam3Config().vision_config.backbone_config.layer_norm_eps == 1e-6
    assert config_from_huggingface(tiny_config(vit_eps=1e-6).to_dict()).vision.norm_eps == 1e-5  # type: ignore[union-attr]
    case = CASES["boxes only"]
    theirs, ours = tiny_pair(vit_eps=1e-6)
    assert differences(run_transformers(theirs, case), run_ours(ours, case))["memory"] > 1e-5


def test_the_released_config_is_our_preset_sam3() -> None:
    assert config_from_huggingface(transformers.Sam3Config().to_dict()) == PRESETS["sam3"]
    assert config_from_huggingface({}) == PRESETS["sam3"]
    video = transformers.Sam3VideoConfig().to_dict()
    assert config_from_huggingface(video) == PRESETS["sam3"]


def test_every_key_of_the_released_model_becomes_a_parameter_of_ours() -> None:
    with torch.device("meta"):
        theirs = transformers.Sam3Model(transformers.Sam3Config()).state_dict()
        ours = build_detector(PRESETS["sam3"]).state_dict()
    translated = from_huggingface(theirs)
    assert {n: v.shape for n, v in translated.items()} == {n: v.shape for n, v in ours.items()}
