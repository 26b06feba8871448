"""Files of other programs: what they hold is told from keys and shapes; nothing is passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.errors import CheckpointError
from tests.checkpoints.foreign_files import (
    CONFIG,
    detector_state,
    huggingface_state,
    official_state,
    write_tokenizer,
)
from tests.models.tiny import RESOLUTION


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return official_state()


def saved(state: dict[str, Tensor], path: Path, nested: str = "") -> Path:
    torch.save({nested: state} if nested else state, path)
    return path


def without_dropout(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: without_dropout(v) for k, v in values.items() if k not in ("dropout", "drop_path")}
    return values


@pytest.mark.parametrize(("prefix", "nested"), [("", ""), ("detector.", ""), ("detector.", "model")])
def test_an_official_file_is_recognised_and_gives_every_weight(
    official: dict[str, Tensor], tmp_path: Path, prefix: str, nested: str
) -> None:
    write_tokenizer(tmp_path)
    path = saved({f"{prefix}{name}": value for name, value in official.items()}, tmp_path / "sam3.pt", nested)
    detector, tokenizer, config = load_checkpoint(path)
    assert without_dropout(config.architecture.to_dict()) == without_dropout(CONFIG.to_dict())
    assert config.preprocessing.resolution == RESOLUTION  # told by the rotary tables
    expected = detector_state()
    assert set(detector.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())
    assert tokenizer.context_length == CONFIG.text.context_length
    assert not detector.training


def test_the_report_says_what_was_read_skipped_and_kept(official: dict[str, Tensor], tmp_path: Path) -> None:
    state = {f"detector.{name}": value for name, value in official.items()}
    state["tracker.memory.weight"] = torch.zeros(100)
    state["detector.backbone.vision_backbone.sam2_convs.0.conv_1x1.weight"] = torch.zeros(10)
    checkpoint = open_checkpoint(saved(state, tmp_path / "sam3.pt"))
    report = checkpoint.report
    assert report.layout == "official SAM 3"
    assert {(group.what, group.keys) for group in report.skipped} == {
        ("video tracker", 1),
        ("neck of the video tracker", 1),
        ("rotary tables, which are computed", 2),
    }
    assert report.read.keys == len(detector_state())
    assert report.carried is not None and report.carried.keys == 1
    assert (report.prefix, report.nested) == ("detector.", "")
    assert checkpoint.config.provenance["weights"] == json.loads(json.dumps(report.to_dict()))
    total = sum(value.numel() * value.element_size() for value in state.values())
    groups = [report.read, report.carried, *report.skipped]
    assert sum(group.bytes for group in groups) == total


def test_the_three_levels_and_extra_necks_of_sam_3_1_are_read(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {f"detector.{n}": v for n, v in official.items() if ".convs.3." not in n}
    state["detector.backbone.vision_backbone.propagation_convs.0.conv_1x1.weight"] = torch.zeros(10)
    state["tracker.model.anything"] = torch.zeros(3)
    config = open_checkpoint(saved(state, tmp_path / "sam3.1.pt")).config
    assert (config.architecture.neck.scales, config.architecture.neck.drop_last) == ((4.0, 2.0, 1.0), 0)


def test_a_missing_key_is_named_as_the_file_would_call_it(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {n: v for n, v in official.items() if "bbox_embed" not in n}
    with pytest.raises(CheckpointError, match=r"6 missing \(transformer.decoder.bbox_embed.layers.0.bias"):
        open_checkpoint(saved(state, tmp_path / "sam3.pt"))


def test_an_unexpected_key_is_named(official: dict[str, Tensor], tmp_path: Path) -> None:
    state = official | {"transformer.decoder.surprise.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="sam3.pt: .*has no transformer.decoder.surprise.weight"):
        open_checkpoint(saved(state, tmp_path / "sam3.pt"))


def test_a_weight_of_another_shape_is_named(official: dict[str, Tensor], tmp_path: Path) -> None:
    state = official | {"transformer.decoder.norm.weight": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"decoder.norm.weight has shape \(5,\)"):
        open_checkpoint(saved(state, tmp_path / "sam3.pt"))


def test_a_left_out_layer_is_named_and_a_huge_number_makes_no_huge_network(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {n.replace("decoder.layers.2.", "decoder.layers.999999999."): v for n, v in official.items()}
    with pytest.raises(CheckpointError, match=r"there is no decoder.layers.2, but decoder.layers.999999999"):
        open_checkpoint(saved(state, tmp_path / "sam3.pt"))


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    state = {"model.embed_tokens.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="no known layout has model.embed_tokens.weight"):
        open_checkpoint(saved(state, tmp_path / "llm.pt"))


def test_our_own_weights_without_their_folder_are_recognised(tmp_path: Path) -> None:
    save_file(detector_state(), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="weights of a conceptseg model folder; give the folder"):
        open_checkpoint(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("part", "keys", "message"),
    [
        ("geometry_encoder.", "exemplar_encoder", "lacks the geometry encoder"),
        ("segmentation_head.", "mask_head", "lacks the segmentation head"),
    ],
)
def test_a_part_that_was_left_out_is_named_and_comes_from_another_file(
    official: dict[str, Tensor], tmp_path: Path, part: str, keys: str, message: str
) -> None:
    state = {name: value for name, value in official.items() if not name.startswith(part)}
    path = saved(state, tmp_path / "lacking.pt")
    with pytest.raises(CheckpointError, match=rf"{message} \(\d+ keys, {part}.*--geometry-from sam3.pt"):
        open_checkpoint(path)
    write_tokenizer(tmp_path)
    other = saved(official_state(seed=1, prefix="detector."), tmp_path / "sam3.pt")
    detector, _, config = load_checkpoint(path, other)
    mine, others = detector_state(), detector_state(seed=1)
    for name, value in detector.state_dict().items():
        assert torch.equal(value, (others if name.startswith(keys) else mine)[name])
    (filled,) = config.provenance["weights"]["filled"]
    assert str(other) in filled["what"]


def test_a_part_that_is_damaged_is_not_taken_from_another_file(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {name: value for name, value in official.items() if name != "geometry_encoder.norm.weight"}
    other = saved(official, tmp_path / "sam3.pt")
    with pytest.raises(CheckpointError, match=r"1 missing \(geometry_encoder.norm.weight\)"):
        open_checkpoint(saved(state, tmp_path / "damaged.pt"), other)


def hugging_face_folder(folder: Path, shards: int = 1, prefix: str = "") -> Path:
    write_tokenizer(folder)
    config = config_to_huggingface(CONFIG, RESOLUTION)
    (folder / "config.json").write_text(json.dumps(config))
    state = {f"{prefix}{name}": value for name, value in huggingface_state().items()}
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return folder
    places = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = sorted(state)[shard::shards]
        save_file({name: state[name] for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


@pytest.mark.parametrize(("shards", "prefix"), [(1, ""), (3, "detector_model.")])
def test_a_hugging_face_folder_gives_every_weight(tmp_path: Path, shards: int, prefix: str) -> None:
    detector, _, config = load_checkpoint(hugging_face_folder(tmp_path / "hf", shards, prefix))
    assert without_dropout(config.architecture.to_dict()) == without_dropout(CONFIG.to_dict())
    assert config.preprocessing.resolution == RESOLUTION
    assert config.provenance["name"] == "hf"
    expected = detector_state()
    for name, value in detector.state_dict().items():
        if "exemplar_encoder.point_" in name:
            assert not value.any()
        else:
            assert torch.equal(value, expected[name])


def test_a_hugging_face_config_that_does_not_fit_its_weights_is_an_error(tmp_path: Path) -> None:
    folder = hugging_face_folder(tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    config["detr_decoder_config"]["num_queries"] = 9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="decoder.query_embedding has shape"):
        open_checkpoint(folder)


def test_a_folder_with_one_file_of_weights_is_that_file(official: dict[str, Tensor], tmp_path: Path) -> None:
    saved(official, tmp_path / "sam3.pt")
    assert open_checkpoint(tmp_path).report.layout == "official SAM 3"
    saved(official, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"holds 2 files of weights \(other.pt, sam3.pt\); give one"):
        open_checkpoint(tmp_path)


def test_an_empty_folder_says_what_could_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="in no layout that this version reads. It reads a conceptseg"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(
    official: dict[str, Tensor], tmp_path: Path, dtype: torch.dtype
) -> None:
    write_tokenizer(tmp_path)
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in official.items()}
    detector, _, _ = load_checkpoint(saved(state, tmp_path / "sam3.pt"))
    expected = detector_state()
    for name, value in detector.state_dict().items():
        assert torch.equal(value, expected[name].to(dtype).float())
