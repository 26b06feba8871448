"""What does not train is at rest, whatever `train()` says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.config import PreprocessingConfig
from conceptseg.train.task import DetectionTask, FrozenModule, Task, in_part
from tests.conftest import make_tiny_segmenter


@pytest.fixture
def task() -> DetectionTask:
    return DetectionTask(make_tiny_segmenter().detector, DetectionLoss(), PreprocessingConfig())


def test_only_the_named_parts_train_and_the_others_rest(task: DetectionTask) -> None:
    task.train_only(["decoder.presence_head", "mask_head"])
    names = {name for name, p in task.detector.named_parameters() if p.requires_grad}
    assert names and all(name.startswith(("decoder.presence_head.", "mask_head.")) for name in names)
    task.train()
    detector = task.detector
    assert not any(
        m.training for part in (detector.vision_encoder, detector.text_encoder) for m in part.modules()
    )
    assert not any(m.training for layer in detector.decoder.layers for m in layer.modules())
    assert detector.decoder.presence_head.training and detector.mask_head.training
    task.eval()
    assert not any(module.training for module in task.modules())


def test_a_part_that_the_model_does_not_have_is_named(task: DetectionTask) -> None:
    with pytest.raises(
        ConfigError, match="trainable names 'eyes', which this model does not have; its parts: vis"
    ):
        task.train_only(["eyes"])


def test_batch_norm_keeps_its_statistics_while_its_scales_train(task: DetectionTask) -> None:
    norms = [module for module in task.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    task.train()
    assert all(norm.training for norm in norms)
    task.rest_batch_norm()
    task.train()
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)


def test_a_frozen_module_is_neither_trained_nor_saved_nor_copied() -> None:
    class Distil(Task):
        def __init__(self) -> None:
            super().__init__(make_tiny_segmenter().detector, PreprocessingConfig())
            self.teacher = FrozenModule(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))

    task = Distil().train()
    teacher = task.teacher.on("cpu")
    assert not any(module.training for module in teacher.modules())
    assert not any(name.startswith("teacher") for name in task.state_dict())
    assert copy.deepcopy(task).teacher.on("cpu") is teacher
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_name_lies_in_a_part_by_whole_words() -> None:
    assert in_part("decoder.norm.weight", "decoder.norm") and in_part("decoder", "decoder")
    assert not in_part("decoder.norms.weight", "decoder.norm")


def test_nothing_rests_unless_it_is_frozen(task: DetectionTask) -> None:
    task.train()
    assert all(module.training for module in task.modules())
    assert torch.is_grad_enabled()
