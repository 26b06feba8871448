"""Forgotten activations change memory and time, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import torch

from conceptseg.train.recompute import BLOCKS, Forgetful, forget_activations
from tests.models.tiny import RESOLUTION, tiny_detector


def loss_and_gradients(detector: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    detector.train()
    output = detector(torch.randn(2, 3, RESOLUTION, RESOLUTION), torch.randint(1, 50, (2, 8)))
    loss = output.class_logits.square().mean() + output.mask_logits.square().mean()
    loss.backward()
    return loss, {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}


def test_loss_and_gradients_are_the_same() -> None:
    plain = tiny_detector(fusion={"dropout": 0.1})  # dropout draws the same numbers again
    forgetful = copy.deepcopy(plain)
    forget_activations(forgetful)
    (loss, gradients), (other_loss, other_gradients) = (
        loss_and_gradients(plain),
        loss_and_gradients(forgetful),
    )
    assert torch.equal(loss, other_loss) and set(gradients) == set(other_gradients)
    for name, value in gradients.items():
        assert torch.allclose(value, other_gradients[name], atol=1e-6), name


def test_blocks_of_every_transformer_forget_and_names_stay() -> None:
    detector = tiny_detector()
    names, blocks = list(detector.state_dict()), sum(isinstance(m, BLOCKS) for m in detector.modules())
    forget_activations(detector)
    assert list(detector.state_dict()) == names
    assert (
        sum(isinstance(m, Forgetful) for m in detector.modules()) == blocks == 2 + 2 + 2 + 3
    )  # vision, text, fusion, decoder
    detector.load_state_dict(tiny_detector(seed=1).state_dict())


def test_a_block_is_computed_again_on_the_way_back_and_once_without_gradients() -> None:
    detector = tiny_detector().train()
    forget_activations(detector)
    calls: list[bool] = []
    detector.fusion_encoder.layers[1].norm1.register_forward_hook(lambda *_: calls.append(True))
    loss_and_gradients(detector)
    assert len(calls) == 2
    with torch.no_grad():
        detector(torch.randn(2, 3, RESOLUTION, RESOLUTION), torch.randint(1, 50, (2, 8)))
    assert len(calls) == 3
