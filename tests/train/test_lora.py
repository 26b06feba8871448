"""Low-rank tuning: nothing changes at first, little is trained, and nothing of it is left in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conceptseg.checkpoints.checkpoint import build_empty
from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.errors import ConfigError
from conceptseg.models.detector import Detector
from conceptseg.models.presets import PRESETS
from conceptseg.train.job import run_job
from conceptseg.train.lora import add_lora, merge_lora
from conceptseg.train.recipe import load_recipe
from conceptseg.train.run import SceneJob, train_recipe
from conceptseg.train.run_config import LoraConfig
from conceptseg.train.run_folder import RunFolder
from tests.models.tiny import boxes, pixels, tiny_detector, token_ids
from tests.train.tiny import write_recipe

PARTS = LoraConfig().parts
RANK = 4


def answers(detector: Detector) -> dict[str, Tensor]:
    output = detector(pixels(), token_ids(), boxes())
    return {
        "class": output.class_logits,
        "boxes": output.boxes_cxcywh,
        "presence": output.presence_logits,
        "masks": output.mask_logits,
    }


def tuned(**changes: object) -> Detector:
    """The reduced SAM 3, frozen but for what LoRA adds, which is no longer zero."""
    detector = tiny_detector().requires_grad_(False)
    add_lora(detector, LoraConfig(rank=RANK, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
    return detector


def trained(detector: Detector) -> dict[str, Tensor]:
    return {name: p for name, p in detector.named_parameters() if p.requires_grad}


def test_adding_it_changes_no_answer() -> None:
    detector = tiny_detector()
    before = answers(detector)
    add_lora(detector, LoraConfig(rank=RANK))
    assert all(torch.equal(value, before[name]) for name, value in answers(detector).items())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_tuned_by_its_own_small_matrices(part: str) -> None:
    detector, plain = tuned(parts=(part,)), tiny_detector()
    assert all(name.startswith(part) and name.endswith((".up", ".down")) for name in trained(detector))
    found, before = answers(detector), answers(plain)
    assert not torch.allclose(found["class"], before["class"], atol=1e-3)
    sum(value.sum() for value in found.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained(detector).values())
    assert all(p.grad is None for p in detector.parameters() if not p.requires_grad)


def test_query_key_and_value_get_a_pair_each() -> None:
    detector = tuned(parts=("fusion_encoder.layers.0.self_attention",))
    attention = detector.fusion_encoder.layers[0].self_attention
    (low_rank,) = attention.parametrizations.in_proj_weight
    width = attention.out_proj.weight.shape[0]
    assert low_rank.down.shape == (3, RANK, width) and low_rank.up.shape == (3, width, RANK)
    change = attention.in_proj_weight - attention.parametrizations.in_proj_weight.original
    expected = [2.0 * low_rank.up[i] @ low_rank.down[i] for i in range(3)]
    torch.testing.assert_close(change, torch.cat(expected), atol=1e-6, rtol=1e-5)
    assert torch.linalg.matrix_rank(change.detach()) == 3 * RANK


def test_merged_it_has_the_names_of_the_model_and_the_same_answers_to_the_bit() -> None:
    detector = tuned()
    before = answers(detector)
    merge_lora(detector)
    plain = tiny_detector().state_dict()
    assert {n: v.shape for n, v in detector.state_dict().items()} == {n: v.shape for n, v in plain.items()}
    assert all(torch.equal(value, before[name]) for name, value in answers(detector).items())
    merge_lora(detector)  # nothing is left to be merged
    assert all(torch.equal(value, before[name]) for name, value in answers(detector).items())


def test_what_is_merged_differs_from_the_start_in_the_matrices_of_attention_alone() -> None:
    detector = tuned()
    merge_lora(detector)
    plain = tiny_detector().state_dict()
    changed = {name for name, value in detector.state_dict().items() if not torch.equal(value, plain[name])}
    assert changed == set(add_lora(tiny_detector(), LoraConfig(rank=RANK)))
    assert {name.partition(".")[0] for name in changed} == set(PARTS)


def test_of_sam3_one_percent_is_trained() -> None:
    detector = build_empty(PRESETS["sam3"]).requires_grad_(False)
    names = add_lora(detector, LoraConfig(rank=16))
    # 32 blocks of the trunk, 24 of the text encoder, 6 layers of two and 6 of three attentions; two matrices.
    assert len(names) == 2 * (32 + 24 + 6 * 2 + 6 * 3)
    trunk_and_text = (32 + 24) * 4 * 16 * (1024 + 1024)  # four matrices with two of rank 16 each
    assert sum(p.numel() for p in trained(detector).values()) == trunk_and_text + 30 * 4 * 16 * (256 + 256)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(rank=2, parts=("head",)), "lora.parts names 'head', .*its parts: vision_encoder"),
        (LoraConfig(rank=2, parts=("scoring",)), "attention, and this model has none in scoring"),
        (LoraConfig(rank=99), "lora.rank = 99 is more than .* has \\(24\\)|has \\(32\\)"),
    ],
)
def test_what_cannot_be_tuned_is_an_error(config: LoraConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        add_lora(tiny_detector(), config)


def test_a_rank_below_zero_is_an_error() -> None:
    with pytest.raises(ConfigError, match="lora.rank"):
        LoraConfig(rank=-1)


LORA = {"rank": 2, "parts": ["text_encoder", "fusion_encoder", "decoder"]}


def test_a_run_trains_little_and_ends_in_an_ordinary_model_folder(train: Callable[..., RunFolder]) -> None:
    folder = train(lora=LORA, trainable=["scoring"])
    state = torch.load(folder.checkpoint_path, weights_only=True)
    begins = ("detector.scoring.", "alignment.")  # the second is no part of the detector
    little = [n for n in state["task"] if n.startswith(begins) or n.endswith((".up", ".down"))]
    assert sum(len(group["params"]) for group in state["optimiser"]["param_groups"]) == len(little)
    load_model_folder(folder.model_path)  # which refuses names that an ordinary model does not have


def test_a_run_that_was_stopped_resumes_to_the_same_weights(tmp_path: Path) -> None:
    class Broken(RunFolder):
        def log(self, values: dict[str, object]) -> None:
            if values["step"] == 5:
                raise OSError("the machine went away")
            super().log(values)

    recipe = write_recipe(tmp_path / "tiny.yaml", lora=LORA)
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    train_recipe(recipe, out=whole.path)
    with pytest.raises(OSError, match="went away"):
        run_job(SceneJob(load_recipe(recipe), Broken(stopped.path)))
    train_recipe(recipe, out=stopped.path, resume=True)
    for name in ("model.safetensors", "config.json"):
        assert (whole.model_path / name).read_bytes() == (stopped.model_path / name).read_bytes()
