"""Each vision student against the released model, restated by hand, and against `timm`'s own module."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.checkpoints.key_table import KeyTable
from conceptseg.checkpoints.students import TRUNK, student_backbone, student_rules
from conceptseg.models.config import StudentBackbone
from conceptseg.models.vision.student import BACKBONES, Student
from tests.parity.released_students import ReleasedStudent, randomise

NAMES = get_args(StudentBackbone)
SIZE_HW = (84, 112)  # no multiple of 32, and TinyViT's windows of 7 and 14 do not fit into its maps
TOLERANCE = 1e-4  # of the largest value


@pytest.fixture(scope="module", params=NAMES)
def student(request: pytest.FixtureRequest) -> tuple[str, Student]:
    """A backbone's name, and the encoder with random weights."""
    with torch.device("meta"):  # skips the first weights, which take longer to draw than all else here
        module = Student(backbone=request.param, head_width=1024, stride=14)
    module.to_empty(device="cpu")
    torch.manual_seed(1)  # for stochastic depth
    randomise(module, pixels())
    return request.param, module.requires_grad_(False)


def pixels() -> Tensor:
    """Two pictures with large and small structure, in -1..1."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(2, 3, 7, 8, generator=generator)
    smooth = F.interpolate(coarse, size=SIZE_HW, mode="bilinear")
    return (smooth + 0.3 * torch.randn(smooth.shape, generator=generator)).clamp(-1, 1)


def released_names(name: str, module: Student) -> dict[str, Tensor]:
    """The tensors of a student as a released file calls them."""
    state = {f"vision_encoder.{key}": value for key, value in module.state_dict().items()}
    released, homeless = KeyTable("EfficientSAM3", student_rules(name)).back(state)
    assert not homeless
    return released


def test_the_map_is_that_of_the_released_model(student: tuple[str, Student]) -> None:
    name, module = student
    tensors = {key.removeprefix(TRUNK): value for key, value in released_names(name, module).items()}
    theirs = ReleasedStudent(tensors)(pixels())
    (ours,) = module(pixels())
    assert ours.shape == (2, 1024, 6, 8)
    assert (theirs[0] - theirs[1]).std() > 0.3 * theirs.std()  # or equality would say little
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def test_features_are_those_of_timm(student: tuple[str, Student]) -> None:
    timm = pytest.importorskip("timm")
    name, module = student
    theirs = timm.create_model(BACKBONES[name], pretrained=False, num_classes=0).eval()
    theirs.head = torch.nn.Identity()
    theirs.load_state_dict(module.backbone.state_dict(), strict=True)
    for part in theirs.modules():
        if hasattr(part, "aggreg"):
            part.eps = 1e-15  # as released; timm's own is 1e-5
    with torch.no_grad():
        expected = theirs.forward_features(pixels())
        ours = module.backbone.forward_features(pixels())  # type: ignore[operator]
    assert (ours - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_names_and_shapes_tell_which_backbone_it_is(student: tuple[str, Student]) -> None:
    name, module = student
    shapes = {key: value.shape for key, value in released_names(name, module).items()}
    assert student_backbone(shapes) == name
    alone = {key.removeprefix(TRUNK): shape for key, shape in shapes.items()}
    assert student_backbone(alone, theirs="") == name


def test_reading_back_gives_every_tensor_again(student: tuple[str, Student]) -> None:
    name, module = student
    released = released_names(name, module)
    ours = KeyTable("EfficientSAM3", student_rules(name)).translate(released)
    assert set(ours) == {f"vision_encoder.{key}" for key in module.state_dict()}
    assert all(
        value is ours[f"vision_encoder.{key}"] or torch.equal(value, ours[f"vision_encoder.{key}"])
        for key, value in module.state_dict().items()
    )
