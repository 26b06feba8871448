"""Students: sizes, shapes, and what was changed in `timm`'s modules."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from torch import nn

from conceptseg.errors import ConfigError, MissingDependencyError
from conceptseg.models.build import build_vision_encoder
from conceptseg.models.config import DetectorConfig, StudentBackbone, StudentConfig
from conceptseg.models.vision.student import BACKBONES, Student, WindowAttention

# Of the released encoders: backbone, head.
RELEASED = {
    "repvit_m0_9": (4_717_792, 9_833_472),
    "repvit_m1_1": (7_774_864, 9_964_544),
    "repvit_m2_3": (22_404_232, 10_095_616),
    "tinyvit_5m": (5_071_124, 9_767_936),
    "tinyvit_11m": (10_547_076, 9_899_008),
    "tinyvit_21m": (20_620_416, 10_030_080),
    "efficientvit_b0": (682_608, 9_571_328),
    "efficientvit_b1": (4_643_936, 9_702_400),
    "efficientvit_b2": (14_977_008, 9_833_472),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(backbone: str = "tinyvit_5m") -> Student:
    return Student(backbone=backbone, head_width=8, stride=14).eval()


@pytest.mark.parametrize("name", RELEASED)
def test_sizes_are_the_released_ones_and_all_state_is_stored(name: str) -> None:
    with torch.device("meta"):
        student = build_vision_encoder(StudentConfig(backbone=name))  # type: ignore[arg-type]
    assert isinstance(student, Student) and student.channels == (1024,)
    assert (count(student.backbone), count(student.head)) == RELEASED[name]
    # Nothing that a checkpoint does not bring: it would be left without values by building on "meta".
    stored = {*dict(student.named_parameters()), *dict(student.named_buffers())}
    assert stored == set(student.state_dict())


def test_every_backbone_of_the_config_can_be_built() -> None:
    assert get_args(StudentBackbone) == tuple(BACKBONES) == tuple(RELEASED)


@pytest.mark.parametrize("name", ["repvit_m0_9", "tinyvit_5m", "efficientvit_b0"])
def test_the_map_has_one_cell_per_fourteen_pixels_whatever_the_image_size(name: str) -> None:
    student = small(name)
    for height, width in ((56, 84), (70, 42)):
        (level,) = student(torch.rand(1, 3, height, width))
        assert level.shape == (1, 8, height // 14, width // 14)


def test_the_full_size_map_is_that_of_sam3() -> None:
    with torch.device("meta"):
        student = Student("repvit_m0_9", head_width=1024, stride=14)
        (level,) = student(torch.empty(1, 3, 1008, 1008))
    assert level.shape == (1, 1024, 72, 72)


def test_a_config_with_a_student_survives_json_and_refuses_unknown_backbones() -> None:
    config = DetectorConfig(vision=StudentConfig(backbone="efficientvit_b1"))
    assert DetectorConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="vision.backbone is 'resnet'; choose 'repvit_m0_9'"):
        DetectorConfig.from_dict({"vision": {"kind": "student", "backbone": "resnet"}})
    with pytest.raises(ConfigError, match="vision.backbone is 'resnet'; choose repvit_m0_9"):
        StudentConfig(backbone="resnet")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="vision.stride is 0; it must be from 1 to 256"):
        StudentConfig(stride=0)


@pytest.mark.parametrize("size", [1.0, 1e-6])  # at 1e-6 sums are as small as the epsilon
def test_linear_attention_adds_what_the_released_model_adds(size: float) -> None:
    import timm
    from timm.models.efficientvit_mit import LiteMLA

    student = small("efficientvit_b0")
    released = timm.create_model("efficientvit_b0", pretrained=False, num_classes=0).eval()
    released.head = torch.nn.Identity()
    released.load_state_dict(student.backbone.state_dict())
    ours, theirs = (
        [part for part in model.modules() if isinstance(part, LiteMLA)] for model in (student, released)
    )
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        x = torch.randn(2, one.qkv.conv.in_channels, 4, 5) * size
        with torch.no_grad():
            with_other_epsilon = other(x)
            other.eps = 1e-15
            assert torch.equal(one(x), other(x)) and not torch.equal(one(x), with_other_epsilon)


def test_new_weights_are_seen_at_once() -> None:
    # timm's own module would go on with the bias that it expanded for the first image.
    student, pixels = small(), torch.rand(1, 3, 56, 56)
    with torch.inference_mode():
        before = student(pixels)[0]
    changed = {
        name: torch.randn_like(value) if name.endswith("attention_biases") else value
        for name, value in student.state_dict().items()
    }
    student.load_state_dict(changed, assign=True)
    after = student(pixels)[0]  # with gradients, after a pass without
    assert (after - before).abs().max() > 1e-4
    after.sum().backward()


def test_attention_biases_are_looked_up_by_distance_in_the_order_in_which_it_is_first_met() -> None:
    window = 3
    attention = WindowAttention(width=4, heads=2, window=window)
    cells = list(itertools.product(range(window), range(window)))
    numbers: dict[tuple[int, int], int] = {}
    expected = [
        [numbers.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(numbers)) for b in cells] for a in cells
    ]
    assert attention.distances().tolist() == expected


@pytest.mark.parametrize("name", ["repvit_m0_9", "tinyvit_5m", "efficientvit_b0"])
def test_a_fine_map_tells_neighbours_apart_that_the_last_map_cannot(name: str) -> None:
    torch.manual_seed(0)
    plain = Student(backbone=name, head_width=8, stride=16).eval()
    fine = Student(backbone=name, head_width=8, stride=16, fine_map=True).eval()
    sizes = []
    for student in (plain, fine):
        student.head.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[-2:])))
        (level,) = student(torch.rand(1, 3, 128, 64))
        assert level.shape == (1, 8, 8, 4)
    assert sizes == [(4, 2), (8, 4)]  # before it is brought to size
    assert set(fine.state_dict()) - set(plain.state_dict()) == {"lateral.weight", "lateral.bias"}


def test_a_timm_that_moved_the_blocks_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("timm.models.tiny_vit.TinyVitBlock")
    with pytest.raises(MissingDependencyError, match=r'older timm than 1\..*: pip install "timm<1\.1"'):
        small()
