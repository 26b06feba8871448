"""A file laid out as `sam3.1_multiplex.pt`, from loading to masks and back.

Its detector is that of SAM 3 without the neck level that SAM 3 throws away. Beside it lie two more necks, of
three levels each, and the tracker. The keys are those of the official code since 3.1; the values are random.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import conceptseg as cs
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.conformance.kit import Kit
from conceptseg.conformance.make import make_kit

CONVS = "detector.backbone.vision_backbone.convs."


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SAM 3 in the official layout, with its tokenizer."""
    kit = Kit(make_kit(tmp_path_factory.mktemp("kit")))
    return kit.folder / kit.about["weights"]


def multiplex(sam3: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {name: value for name, value in sam3.items() if not name.startswith(f"{CONVS}3.")}
    for neck in ("interactive_convs", "propagation_convs"):
        state |= {
            name.replace(".convs.", f".{neck}."): torch.randn_like(value)
            for name, value in state.items()
            if name.startswith(CONVS)
        }
    state["tracker.model.maskmem_tpos_enc"] = torch.randn(7, 1, 1, 4)
    state["tracker.model.transformer.encoder.layers.0.norm1.weight"] = torch.randn(4)
    return state


@pytest.fixture(scope="module")
def sam3_1(sam3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam3.1")
    (folder / "tokenizer.json").write_bytes((sam3.parent / "tokenizer.json").read_bytes())
    torch.save(multiplex(torch.load(sam3)), folder / "sam3.1_multiplex.pt")
    return folder / "sam3.1_multiplex.pt"


def test_it_says_what_was_read_and_what_was_left_out(sam3: Path, sam3_1: Path) -> None:
    checkpoint = open_checkpoint(sam3_1)
    neck = checkpoint.config.architecture.neck
    assert (neck.scales, neck.drop_last) == ((4.0, 2.0, 1.0), 0)
    skipped = {group.what: group.keys for group in checkpoint.report.skipped}
    levels = sum(name.startswith(CONVS) for name in multiplex(torch.load(sam3)))
    assert skipped["video tracker"] == 2
    assert skipped["neck of the video tracker"] == 2 * levels


def test_it_answers_as_sam_3_with_the_same_weights(sam3: Path, sam3_1: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    three, one = (
        cs.load(path).segment(
            image, text="red cup", boxes=[[20, 20, 60, 70]], threshold=0.0, presence="ignore"
        )
        for path in (sam3, sam3_1)
    )
    assert len(three.scores) == 12
    assert np.array_equal(one.scores, three.scores)
    assert np.array_equal(one.boxes, three.boxes)
    assert np.array_equal(one.masks, three.masks)
    assert one.presence_logit == three.presence_logit


def test_it_comes_back_bit_for_bit_without_the_other_networks(sam3_1: Path, tmp_path: Path) -> None:
    convert(open_checkpoint(sam3_1), tmp_path / "own")
    convert(open_checkpoint(tmp_path / "own"), tmp_path / "back", "official")
    given, back = torch.load(sam3_1), torch.load(tmp_path / "back" / "model.pt")
    left_out = ("interactive_convs", "propagation_convs", "tracker.")
    wanted = {n: v for n, v in given.items() if not any(part in n for part in left_out)}
    assert set(back) == set(wanted)
    assert all(torch.equal(back[name], value) for name, value in wanted.items())
