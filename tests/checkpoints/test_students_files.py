"""EfficientSAM3 files: whole, lacking parts, encoders alone, and with what merging left behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conceptseg.checkpoints.efficientsam3 import efficientsam3_table
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.checkpoints.official import OFFICIAL
from conceptseg.errors import CheckpointError
from conceptseg.models.config import MobileClipTextConfig, StudentConfig
from tests.checkpoints.foreign_files import CONFIG, detector_state, official_state, write_tokenizer

TRUNK = "detector.backbone.vision_backbone.trunk."
LANGUAGE = "detector.backbone.language_backbone."
STUDENT = dataclasses.replace(
    CONFIG,
    vision=StudentConfig(backbone="efficientvit_b0", head_width=32),
    text=MobileClipTextConfig(
        vocab_size=300, context_length=6, positions=6, width=24, depth=2, heads=1, mlp_width=48
    ),
)


@pytest.fixture(scope="module")
def student() -> dict[str, Tensor]:
    table = efficientsam3_table("efficientvit_b0", mobileclip=True)
    return official_state(STUDENT, "detector.", table)


@pytest.fixture
def sam3(tmp_path: Path) -> Path:
    torch.save(official_state(seed=1, prefix="detector."), tmp_path / "sam3.pt")
    return tmp_path / "sam3.pt"


def saved(state: dict[str, Tensor], path: Path) -> Path:
    write_tokenizer(path.parent)
    torch.save({"model": state}, path)
    return path


def test_a_merged_file_gives_every_weight(student: dict[str, Tensor], tmp_path: Path) -> None:
    detector, tokenizer, config = load_checkpoint(saved(student, tmp_path / "student.pt"))
    assert config.architecture.vision == STUDENT.vision
    assert config.architecture.text == STUDENT.text
    assert config.preprocessing.resolution == 1008
    assert tokenizer.context_length == 6
    expected = detector_state(STUDENT)
    assert set(detector.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())
    values = [*detector.parameters(), *detector.buffers()]
    assert not any(value.is_meta for value in values)


def test_the_wrapper_that_training_leaves_in_names_is_no_obstacle(
    student: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {n.replace("trunk.model.", "trunk.model.student_trunk."): v for n, v in student.items()}
    checkpoint = open_checkpoint(saved(state, tmp_path / "student.pt"))
    assert checkpoint.config.architecture.vision == STUDENT.vision


def test_what_merging_left_behind_is_skipped_and_reported(student: dict[str, Tensor], tmp_path: Path) -> None:
    teacher = {n: v for n, v in official_state(prefix="detector.").items() if n.startswith((TRUNK, LANGUAGE))}
    classifier = {f"{TRUNK}model.backbone.model.head.op_list.0.conv.weight": torch.zeros(4, 3)}
    both = saved(teacher | student | classifier, tmp_path / "student.pt")
    report = open_checkpoint(both).report
    skipped = {group.what: group.keys for group in report.skipped}
    assert sum(skipped.values()) == len(teacher) + 1
    assert sum(count for what, count in skipped.items() if "teacher's vision trunk" in what) > 20
    assert sum(count for what, count in skipped.items() if "teacher's text encoder" in what) > 20
    assert report.read.keys == len(student) - 1  # the projection that nothing reads is kept apart


def test_a_file_without_a_geometry_encoder_takes_it_from_sam3(
    student: dict[str, Tensor], sam3: Path, tmp_path: Path
) -> None:
    state = {name: value for name, value in student.items() if "geometry_encoder" not in name}
    path = saved(state, tmp_path / "student.pt")
    with pytest.raises(
        CheckpointError, match=r"\(EfficientSAM3\) lacks the geometry encoder .*--geometry-from"
    ):
        open_checkpoint(path)
    detector, _, config = load_checkpoint(path, sam3)
    assert config.architecture.vision == STUDENT.vision
    given = detector.state_dict()
    assert torch.equal(
        given["exemplar_encoder.summary_token"], detector_state(seed=1)["exemplar_encoder.summary_token"]
    )
    assert torch.equal(given["decoder.query_embedding"], detector_state(STUDENT)["decoder.query_embedding"])


@pytest.mark.parametrize("prefix", ["", "student_trunk.", "module.", "module.student_trunk."])
def test_a_vision_encoder_alone_says_what_it_is_and_combines_with_sam3(
    student: dict[str, Tensor], sam3: Path, tmp_path: Path, prefix: str
) -> None:
    begin = f"{TRUNK}model."
    alone = {f"{prefix}{n.removeprefix(begin)}": v for n, v in student.items() if n.startswith(begin)}
    path = saved(alone, tmp_path / "stage1.pth")
    with pytest.raises(CheckpointError, match="nothing but a student's vision encoder .*--geometry-from"):
        open_checkpoint(path)
    detector, _, config = load_checkpoint(path, sam3)
    assert config.architecture.vision == STUDENT.vision
    assert config.architecture.text == CONFIG.text
    mine, others = detector_state(STUDENT), detector_state(seed=1)
    for name, value in detector.state_dict().items():
        assert torch.equal(value, (mine if name.startswith("vision_encoder") else others)[name])


def test_frozen_copies_in_a_training_file_are_left_alone(
    student: dict[str, Tensor], sam3: Path, tmp_path: Path
) -> None:
    begin = f"{TRUNK}model."
    state = {f"student_trunk.{n.removeprefix(begin)}": v for n, v in student.items() if n.startswith(begin)}
    state |= {"sam3.transformer.decoder.norm.weight": torch.zeros(3), "frozen_convs.0.weight": torch.zeros(2)}
    report = open_checkpoint(saved(state, tmp_path / "tuned.pth"), sam3).report
    assert [(group.what, group.keys) for group in report.skipped] == [
        ("frozen copies of SAM 3 in a training file", 2)
    ]


def test_a_text_encoder_alone_combines_with_sam3(
    student: dict[str, Tensor], sam3: Path, tmp_path: Path
) -> None:
    alone = {n.removeprefix(LANGUAGE): v for n, v in student.items() if n.startswith(LANGUAGE)}
    path = saved(alone, tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match="nothing but a student's text encoder .*--geometry-from"):
        open_checkpoint(path)
    _, tokenizer, config = load_checkpoint(path, sam3)
    assert config.architecture.text == STUDENT.text
    assert config.architecture.vision.kind == "vit"
    assert tokenizer.context_length == 6


def test_a_student_that_is_none_of_the_nine_is_refused(student: dict[str, Tensor], tmp_path: Path) -> None:
    head = f"{TRUNK}model.head.0.weight"
    state = student | {head: torch.zeros(32, 77, 1, 1)}
    with pytest.raises(CheckpointError, match="none of the nine released students"):
        open_checkpoint(saved(state, tmp_path / "student.pt"))


def test_both_students_in_a_row_of_tables_know_their_layout() -> None:
    assert efficientsam3_table(None, mobileclip=False) is OFFICIAL
    assert efficientsam3_table(None, mobileclip=True).layout == "SAM3-LiteText"
    assert efficientsam3_table("repvit_m0_9", mobileclip=False).layout == "EfficientSAM3"
