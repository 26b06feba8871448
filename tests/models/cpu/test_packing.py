"""Packed weights give the products of plain ones, and are plain again wherever they leave the process."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import conceptseg as cs
from conceptseg.benchmark.flops import count_flops
from conceptseg.checkpoints.fingerprint import model_fingerprint
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.models.cpu import packing
from conceptseg.models.cpu.packing import PackedLinear, pack
from conceptseg.segmenter import Segmenter
from conceptseg.unstable import can_pack

pytestmark = pytest.mark.skipif(not can_pack(), reason="this processor does not multiply in bfloat16")


def packed_parts(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, PackedLinear)]


@pytest.fixture
def all_packed(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """A small model in bfloat16 of which even small matrices are packed."""
    monkeypatch.setattr(packing, "FEWEST_WEIGHTS", 1)
    return cs.load(tiny_model_folder, dtype="bfloat16")


def plain_bfloat16(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    monkeypatch.setattr(packing, "FEWEST_WEIGHTS", 2**40)
    return cs.load(folder, dtype="bfloat16")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (3, 5, 40), (2, 24, 24, 40)])
def test_products_are_those_of_the_plain_layer(shape: tuple[int, ...], bias: bool) -> None:
    plain = nn.Linear(40, 56, bias=bias).to(torch.bfloat16)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(plain.weight, plain.bias)(x), plain(x.bfloat16()))


def test_only_large_rounded_matrices_are_packed() -> None:
    side = 512
    model = nn.Sequential(nn.Linear(side, side), nn.Linear(side, side).bfloat16(), nn.Linear(8, 8).bfloat16())
    pack(model)
    assert packed_parts(model) == ["1"]


def test_answers_are_those_of_plain_weights(
    all_packed: Segmenter, tiny_model_folder: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plain_bfloat16(tiny_model_folder, monkeypatch)
    assert len(packed_parts(all_packed.detector)) > 10 and not packed_parts(plain.detector)
    for question in ({"text": "coin"}, {"boxes": [[4, 4, 40, 40]]}):
        one, other = (
            s.segment(picture, threshold=0, return_raw=True, **question).raw for s in (all_packed, plain)
        )
        for name in ("class_logits", "boxes_cxcywh", "presence_logits"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=2e-2, rtol=2e-2)


def test_a_packed_model_is_saved_as_a_plain_one(
    all_packed: Segmenter, tiny_model_folder: Path, tmp_path: Path
) -> None:
    parts = all_packed.detector, all_packed.tokenizer, all_packed.config
    save_model_folder(tmp_path / "again", *parts, dtype=torch.bfloat16)
    plain = cs.load(tiny_model_folder)
    save_model_folder(tmp_path / "plain", plain.detector, plain.tokenizer, plain.config, dtype=torch.bfloat16)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("again", "plain"))
    assert one == other


def test_a_packed_model_keeps_its_fingerprint_and_can_be_copied(
    all_packed: Segmenter, tiny_model_folder: Path
) -> None:
    assert (
        all_packed.fingerprint
        == model_fingerprint(all_packed.detector)
        == cs.load(tiny_model_folder).fingerprint
    )
    layer = all_packed.detector.get_submodule(packed_parts(all_packed.detector)[0])
    assert isinstance(layer, PackedLinear)
    x = torch.randn(4, layer.weight.shape[1])
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))


def test_work_on_packed_weights_is_counted(
    all_packed: Segmenter, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "grey.png")
    plain = plain_bfloat16(tiny_model_folder, monkeypatch)
    assert count_flops(all_packed, tmp_path / "grey.png", "coin") == count_flops(
        plain, tmp_path / "grey.png", "coin"
    )
