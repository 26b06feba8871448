"""From one layout to another and back: the same keys, the same bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conceptseg.checkpoints.config_file import read_config, write_config
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.efficientsam3 import efficientsam3_table
from conceptseg.checkpoints.folder import load_model_folder, save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.errors import CheckpointError, OptionError
from conceptseg.models.build import build_detector
from conceptseg.models.config import DetectorConfig, MobileClipTextConfig, ModelConfig, StudentConfig
from conceptseg.models.text.tokenizer import Tokenizer
from tests.checkpoints.foreign_files import CONFIG, huggingface_state, official_state, write_tokenizer
from tests.models.tiny import tiny_config

MOBILECLIP = MobileClipTextConfig(
    vocab_size=300, context_length=6, positions=6, width=24, depth=2, heads=1, mlp_width=48
)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        assert other[name].dtype == value.dtype and torch.equal(other[name], value), name


def there_and_back(source: Path, folder: Path, to: str) -> Path:
    convert(open_checkpoint(source), folder / "own")
    convert(open_checkpoint(folder / "own"), folder / "back", to)  # type: ignore[arg-type]
    return folder / "back"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("prefix", "nested"), [("", ""), ("detector.", ""), ("detector.", "model")])
def test_official_to_own_and_back_is_bit_exact(
    tmp_path: Path, prefix: str, nested: str, dtype: torch.dtype
) -> None:
    write_tokenizer(tmp_path)
    state = official_state(prefix=prefix)
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    torch.save({nested: state} if nested else state, tmp_path / "sam3.pt")
    back = torch.load(there_and_back(tmp_path / "sam3.pt", tmp_path, "official") / "model.pt")
    assert_same(state, back[nested] if nested else back)


def test_rotary_tables_that_are_not_as_computed_come_back_too(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    state = official_state()
    (name, *_) = [name for name in state if name.endswith("freqs_cis")]
    state[name] = state[name] * 2
    torch.save(state, tmp_path / "sam3.pt")
    back = torch.load(there_and_back(tmp_path / "sam3.pt", tmp_path, "official") / "model.pt")
    assert_same(state, back)


@pytest.mark.parametrize("prefix", ["", "detector_model."])
def test_hugging_face_to_own_and_back_is_bit_exact(tmp_path: Path, prefix: str) -> None:
    write_tokenizer(tmp_path)
    state = {f"{prefix}{name}": value for name, value in huggingface_state().items()}
    save_file(state, tmp_path / "weights.safetensors")
    convert(open_checkpoint(tmp_path / "weights.safetensors"), tmp_path / "first", "hf")  # makes a config
    back = there_and_back(tmp_path / "first", tmp_path, "hf")
    assert_same(state, load_file(back / "model.safetensors"))


@pytest.mark.parametrize("backbone", ["efficientvit_b0", None])
def test_students_to_own_and_back_are_bit_exact(tmp_path: Path, backbone: str | None) -> None:
    vision = CONFIG.vision
    if backbone is not None:
        vision = StudentConfig(backbone=backbone, head_width=32)  # type: ignore[arg-type]
    config = dataclasses.replace(CONFIG, vision=vision, text=MOBILECLIP)
    write_tokenizer(tmp_path)
    state = official_state(config, "detector.", efficientsam3_table(backbone, mobileclip=True))
    torch.save({"model": state}, tmp_path / "student.pt")
    back = there_and_back(tmp_path / "student.pt", tmp_path, "official")
    assert_same(state, torch.load(back / "model.pt")["model"])
    assert read_config(tmp_path / "own")[0].architecture.text == MOBILECLIP


def test_official_to_hugging_face_is_the_same_network_without_points(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    torch.save(official_state(), tmp_path / "sam3.pt")
    done = convert(open_checkpoint(tmp_path / "sam3.pt"), tmp_path / "hf", "hf")
    assert sum("exemplar_encoder.point_" in name for name in done.lost) == 6
    official, _, one = load_checkpoint(tmp_path / "sam3.pt")
    again, _, other = load_checkpoint(tmp_path / "hf")
    assert one.architecture.text == other.architecture.text
    assert one.architecture.vision.heads == other.architecture.vision.heads  # type: ignore[union-attr]
    for name, value in official.state_dict().items():
        if "exemplar_encoder.point_" not in name:
            assert torch.equal(again.state_dict()[name], value)


def test_a_converted_folder_loads_like_its_source_and_remembers_it(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    torch.save(official_state(prefix="detector."), tmp_path / "sam3.pt")
    convert(open_checkpoint(tmp_path / "sam3.pt"), tmp_path / "own")
    one, words, config = load_checkpoint(tmp_path / "sam3.pt")
    other, same_words, same_config = load_model_folder(tmp_path / "own")
    assert_same(dict(one.state_dict()), dict(other.state_dict()))
    assert torch.equal(words(["red circle"]), same_words(["red circle"]))
    assert same_config == config
    assert config.provenance["weights"]["layout"] == "official SAM 3"


def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    for to in ("hf", "official"):
        with pytest.raises(CheckpointError, match="layout has no vision encoder of kind 'convnet'"):
            convert(open_checkpoint(tiny_model_folder), tmp_path / to, to)  # type: ignore[arg-type]
        assert not (tmp_path / to).exists()


@pytest.mark.parametrize(
    ("config", "to", "message"),
    [
        (tiny_config(text={"vocab_size": 300}), "official", "come back with another text.heads"),
        (tiny_config(presence={"logit_limit": 10.0}), "hf", "come back with another presence.logit_limit"),
    ],
)
def test_what_would_come_back_otherwise_is_refused(
    tmp_path: Path, config: DetectorConfig, to: str, message: str
) -> None:
    write_tokenizer(tmp_path, 280)
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json", config.text.context_length)
    save_model_folder(tmp_path / "own", build_detector(config), tokenizer, ModelConfig(architecture=config))
    with pytest.raises(CheckpointError, match=message):
        convert(open_checkpoint(tmp_path / "own"), tmp_path / "to", to)  # type: ignore[arg-type]


def test_ways_to_read_answers_that_other_programs_do_not_have_are_said_to_be_left_out(
    tmp_path: Path,
) -> None:
    write_tokenizer(tmp_path)
    torch.save(official_state(), tmp_path / "sam3.pt")
    convert(open_checkpoint(tmp_path / "sam3.pt"), tmp_path / "own")
    config = dataclasses.replace(
        read_config(tmp_path / "own")[0],
        presence_mode="ignore",
        dedupe="nms",
        mask_margin=0.25,
    )
    write_config(tmp_path / "own", config)
    for to in ("hf", "official"):
        done = convert(open_checkpoint(tmp_path / "own"), tmp_path / to, to)  # type: ignore[arg-type]
        assert {"presence_mode 'ignore'", "dedupe 'nms'", "mask_margin 0.25"} <= set(done.lost)


def test_an_unknown_format_is_an_error(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(OptionError, match="unknown format 'onnx'; choose 'own', 'hf', 'official'"):
        convert(open_checkpoint(tiny_model_folder), tmp_path, "onnx")  # type: ignore[arg-type]
