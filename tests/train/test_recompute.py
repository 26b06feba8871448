"""Forgotten activations change memory and time, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import torch

from conceptseg.train.recompute import BLOCKS, forget_activations
from tests.models.tiny import RESOLUTION, tiny_detector


def loss_and_gradients(detector: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    detector.train()
    output = detector(torch.randn(2, 3, RESOLUTION, RESOLUTION), torch.randint(1, 50, (2, 8)))
    loss = output.class_logits.square().mean() + output.mask_logits.square().mean()
    loss.backward()
    return loss, {
        name.replace("_checkpoint_wrapped_module.", ""): p.grad
        for name, p in detector.named_parameters()
        if p.grad is not None
    }


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


def test_blocks_of_every_transformer_are_wrapped_and_names_stay() -> None:
    detector = tiny_detector()
    names, blocks = list(detector.state_dict()), sum(isinstance(m, BLOCKS) for m in detector.modules())
    forget_activations(detector)
    assert list(detector.state_dict()) == names
    wrapped = [m for m in detector.modules() if type(m).__name__ == "CheckpointWrapper"]
    assert len(wrapped) == blocks == 2 + 2 + 2 + 3  # vision, text, fusion, decoder
    detector.load_state_dict(tiny_detector(seed=1).state_dict())
