"""Every key of every released layout: with exactly these keys and shapes a network loads, nothing left over.

The lists of keys and shapes are not part of the project; CONCEPTSEG_KEYS says where they are.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conceptseg.checkpoints import foreign
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.foreign import open_foreign
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.checkpoints.weights import Weights
from tests.checkpoints.foreign_files import write_tokenizer

NEIGHBOUR = Path(__file__).parents[2] / "../shared/reference/keys"
KEYS = Path(os.environ.get("CONCEPTSEG_KEYS", NEIGHBOUR))
MANIFESTS = sorted(path.stem for path in KEYS.glob("*.tsv"))
SMALLER = 16  # widths are divided by this in round trips

pytestmark = pytest.mark.skipif(not MANIFESTS, reason="no lists of keys; set CONCEPTSEG_KEYS")


def entries(name: str) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    lines = (KEYS / f"{name}.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith(("#", "key\t"))]
    return [
        (key, () if shape == "scalar" else tuple(map(int, shape.split("x"))), getattr(torch, dtype))
        for key, shape, dtype in rows
    ]


def smaller(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Widths divided, everything else (tokens, classes, kernels, backbones of students) as it is."""
    if "trunk.model.backbone" in key or key.endswith("freqs_cis"):
        return shape
    if "trunk.model.head.0.weight" in key:
        return (shape[0] // SMALLER, *shape[1:])
    kept = (576,)  # tokens of a position table
    position = {258: 256 // SMALLER + 2}  # position encoding of a box and its two sides
    return tuple(
        position.get(n, n // SMALLER if n >= 128 and n % SMALLER == 0 and n not in kept else n) for n in shape
    )


def small_file(name: str, folder: Path) -> tuple[Path, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2_000_000, generator=generator)  # each tensor is another stretch of these
    state: dict[str, Tensor] = {}
    for number, (key, shape, dtype) in enumerate(entries(name)):
        size = smaller(key, shape)
        if dtype == torch.int64:
            state[key] = torch.randint(0, 9, size, generator=generator)
        elif dtype == torch.complex64:
            state[key] = torch.randn(size, dtype=dtype, generator=generator)
        else:
            state[key] = values[number : number + math.prod(size)].reshape(size).clone()
    write_tokenizer(folder)
    if name.startswith("hf"):
        save_file(state, folder / "weights.safetensors")
        return folder / "weights.safetensors", state
    torch.save({"model": {f"detector.{key}": value for key, value in state.items()}}, folder / "weights.pt")
    return folder / "weights.pt", state


@pytest.mark.parametrize("name", MANIFESTS)
def test_exactly_these_keys_make_a_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {key: torch.empty(shape, dtype=dtype, device="meta") for key, shape, dtype in entries(name)}
    monkeypatch.setattr(foreign, "open_weights", lambda path: (Weights(dict(state)), ""))
    checkpoint = open_foreign(Path(f"{name}.pt"))  # an error when a key is missing, unknown or twice there
    pieces = [piece for part in checkpoint.parts for piece in part.pieces]
    made = [piece.ours for piece in pieces]
    assert len(set(made)) == len(made)
    assert {*made, *checkpoint.zeros} == set(checkpoint.detector.state_dict())
    report = checkpoint.report
    groups = [report.read, *report.skipped, *([report.carried] if report.carried else [])]
    assert sum(group.keys for group in groups) == len(state)


@pytest.mark.parametrize("name", MANIFESTS)
def test_to_our_folder_and_back_every_bit_is_the_same(name: str, tmp_path: Path) -> None:
    path, state = small_file(name, tmp_path / "source")
    convert(open_checkpoint(path), tmp_path / "own")
    own = open_checkpoint(tmp_path / "own")
    if name.startswith("hf"):
        convert(own, tmp_path / "back", "hf")
        back = load_file(tmp_path / "back" / "model.safetensors")
    else:
        convert(own, tmp_path / "back", "official")
        nested = torch.load(tmp_path / "back" / "model.pt")["model"]
        back = {key.removeprefix("detector."): value for key, value in nested.items()}
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key
