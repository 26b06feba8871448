"""Opening files of weights: memory-mapped, and safe whatever the file holds."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conceptseg.checkpoints.safetensors_file import open_safetensors, open_shards
from conceptseg.checkpoints.torch_file import open_torch
from conceptseg.errors import CheckpointError


class Attack:
    """Unpickled by the ordinary reader, this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def lying_safetensors(path: Path, header: dict[str, Any], data: bytes = b"\0" * 16) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_tensors_of_a_safetensors_file_are_read_as_they_were_written(tmp_path: Path) -> None:
    state = {
        "bytes": torch.tensor([1, 2, 3], dtype=torch.uint8),  # makes what follows lie at odd places
        "floats": torch.rand(3, 5),
        "half": torch.rand(2, 2).bfloat16(),
        "count": torch.tensor(7),
        "nothing": torch.empty(0, 4),
    }
    save_file(state, tmp_path / "a.safetensors")
    weights = open_safetensors(tmp_path / "a.safetensors")
    assert set(weights) == set(state)
    for name, value in state.items():
        assert weights[name].dtype == value.dtype and torch.equal(weights[name], value)


def test_changing_what_was_read_does_not_change_the_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4)}, tmp_path / "a.safetensors")
    open_safetensors(tmp_path / "a.safetensors")["a"].fill_(1)
    assert not open_safetensors(tmp_path / "a.safetensors")["a"].any()


def test_released_tensors_are_gone_and_their_neighbours_stay(tmp_path: Path) -> None:
    state = {name: torch.full((5000,), float(i)) for i, name in enumerate("abc")}
    save_file(state, tmp_path / "a.safetensors")
    weights = open_safetensors(tmp_path / "a.safetensors")
    copy = weights["b"].clone()
    weights.release("b")
    assert set(weights) == {"a", "c"}
    assert torch.equal(weights["a"], state["a"]) and torch.equal(weights["c"], state["c"])
    assert torch.equal(copy, state["b"])


def test_shards_are_joined(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "model-00002-of-00002.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    weights = open_shards(index)
    assert weights["a"].sum() == 2 and not weights["b"].any()


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "../a.safetensors"}, "shards are safetensors files beside it"),
        ({"a": "a.pt"}, "shards are safetensors files beside it"),
        ({"a": "b.safetensors"}, "has no b.safetensors, which its index names"),
        ({"c": "a.safetensors"}, "names c, which is not in a.safetensors"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_an_error(
    tmp_path: Path, places: dict[str, str], message: str
) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=message):
        open_shards(index)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"weight_map": 3}', "{"])
def test_an_index_without_a_map_is_an_error(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(CheckpointError, match="it holds no weight_map"):
        open_shards(index)


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([4], [0, 64])},  # more than there is
        {"a": entry([1_000_000_000], [0, 16])},  # shape and bytes disagree
        {"a": entry([2], [0, 8]), "b": entry([2], [4, 12])},  # overlapping
        {"a": entry([2], [0, 8])},  # bytes that nothing describes
        {"a": entry([2], [8, 16])},  # a gap
        {"a": entry([4], [0, 16], "X99")},
        {"a": 3},
    ],
)
def test_a_header_that_lies_is_an_error(tmp_path: Path, header: dict[str, Any]) -> None:
    path = lying_safetensors(tmp_path / "a.safetensors", header)
    with pytest.raises(CheckpointError, match="a.safetensors"):
        open_safetensors(path)


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 64, struct.pack("<Q", 1 << 40) + b"{}"])
def test_a_file_that_is_no_safetensors_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="cannot read .*a.safetensors"):
        open_safetensors(path)


@pytest.mark.parametrize("nested", ["", "model", "state_dict"])
def test_a_state_dict_is_found_with_and_without_nesting(tmp_path: Path, nested: str) -> None:
    state = {"a": torch.rand(3), "b": torch.tensor(4)}
    content: dict[str, Any] = {nested: state, "epoch": 3, "optimizer": {"lr": 0.1}} if nested else state
    torch.save(content, tmp_path / "a.pt")
    weights, found = open_torch(tmp_path / "a.pt")
    assert found == nested
    assert torch.equal(weights["a"], state["a"]) and torch.equal(weights["b"], state["b"])


def test_files_from_before_the_zip_format_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert open_torch(tmp_path / "a.pth")[0]["a"].sum() == 3


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    made = tmp_path / "made-by-the-attack"
    content = {"a": torch.ones(2), "b": Attack(made)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="holds more than tensors: opening it would run .*mkdir"):
        open_torch(tmp_path / "a.pt")
    assert not made.exists()


def test_a_bare_pickle_of_code_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-attack"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Attack(made), protocol=2))
    with pytest.raises(CheckpointError, match="a.pt"):
        open_torch(tmp_path / "a.pt")
    assert not made.exists()


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_an_error(tmp_path: Path, kept: float) -> None:
    torch.save({"a": torch.rand(5000)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match="a.pt (is empty|holds|)|is the file complete"):
        open_torch(tmp_path / "a.pt")


def test_an_archive_that_unpacks_to_more_than_it_is_is_not_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
        bomb.writestr("a/data/1", bytes(50_000_000))
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="unpacks to more than its .* bytes"):
        open_torch(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.pt is empty"),
        (b"these are no weights\n", "a.pt is no file that torch.save wrote"),
        (b"<!DOCTYPE html><html></html>", "a.pt is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
    ],
)
def test_other_files_by_the_name_of_weights_are_told_apart(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        open_torch(tmp_path / "a.pt")


def test_other_archives_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="a zip archive, but none that torch.save wrote"):
        open_torch(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no named tensors; it holds list"),
        ({"epoch": 3}, "holds no named tensors; it holds epoch"),
        ({}, "holds no named tensors; it holds nothing"),
        ({"a": torch.ones(1), "b": 3}, "b is int, and weights are tensors with names"),
        ({"a": torch.ones(1), 3: torch.ones(1)}, "3 is Tensor, and weights are tensors with names"),
        ({"a": torch.ones(1).expand(1_000_000_000)}, "claims the shape .* but the file has no values"),
        ({"a": torch.eye(3).to_sparse()}, "tensor of layout torch.sparse_coo"),
        ({"a": torch.empty(5, device="meta")}, "a is a meta tensor"),
    ],
)
def test_what_is_not_tensors_with_names_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        open_torch(tmp_path / "a.pt")
