"""Every key and shape of the released students, where a folder of manifests is at hand.

The environment variable CONCEPTSEG_KEYS names it; without it, `shared/reference/keys` beside the checkout is
tried. A manifest has a line per tensor: name, shape as 3x4 or "scalar", and type, between tabs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from conceptseg.checkpoints.key_table import UNUSED, KeyTable
from conceptseg.checkpoints.mobileclip import (
    LANGUAGE,
    huggingface_mobileclip_rules,
    mobileclip_config,
    mobileclip_rules,
)
from conceptseg.checkpoints.students import TRUNK, student_backbone, student_rules
from conceptseg.models.build import build_text_encoder, build_vision_encoder
from conceptseg.models.config import StudentConfig

BESIDE = Path(__file__).parents[2].parent / "shared" / "reference" / "keys"
FOLDER = Path(os.environ.get("CONCEPTSEG_KEYS", BESIDE))
VISION = sorted(FOLDER.glob("esam3_*.tsv"))
TEXT = [*VISION, *sorted(FOLDER.glob("litetext_*.tsv")), *sorted(FOLDER.glob("hf_sam3_lite_text.tsv"))]

pytestmark = pytest.mark.skipif(not VISION, reason="no manifests of released keys at hand")


def read(path: Path) -> dict[str, torch.Tensor]:
    state = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", "key\t")):
            continue
        name, shape, dtype = line.split("\t")
        sizes = [] if shape == "scalar" else [int(side) for side in shape.split("x")]
        state[name] = torch.empty(sizes, dtype=getattr(torch, dtype), device="meta")
    return state


def described(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {f"{prefix}{name}": (value.shape, value.dtype) for name, value in state.items()}


@pytest.mark.parametrize("path", VISION, ids=lambda path: path.stem)
def test_a_vision_student_has_a_place_for_every_tensor_and_a_tensor_for_every_place(path: Path) -> None:
    state = {name: value for name, value in read(path).items() if name.startswith(TRUNK)}
    backbone = student_backbone({name: value.shape for name, value in state.items()})
    assert backbone is not None
    table = KeyTable("EfficientSAM3", student_rules(backbone))
    ours = table.translate(state)
    with torch.device("meta"):
        module = build_vision_encoder(StudentConfig(backbone=backbone))  # type: ignore[arg-type]
    assert described(ours) == described(module.state_dict(), "vision_encoder.")
    back, homeless = table.back(ours)
    assert described(back) == described(state) and not homeless


@pytest.mark.parametrize("path", TEXT, ids=lambda path: path.stem)
def test_a_text_student_has_a_place_for_every_tensor_and_a_tensor_for_every_place(path: Path) -> None:
    if path.stem.startswith("hf_"):
        table, names = KeyTable("HF", huggingface_mobileclip_rules()), ("text_encoder.", "text_projection.")
    else:
        table, names = KeyTable("EfficientSAM3", mobileclip_rules()), (LANGUAGE,)
    state = {name: value for name, value in read(path).items() if name.startswith(names)}
    made = {piece.ours: piece.make(state, path.stem) for piece in table.plan(state).pieces}
    ours = {name: value for name, value in made.items() if not name.startswith(UNUSED)}
    with torch.device("meta"):
        config = mobileclip_config({name: value.shape for name, value in ours.items()})
        module = build_text_encoder(config, 256)
    assert described(ours) == described(module.state_dict(), "text_encoder.")
    back, homeless = table.back(made)
    assert described(back) == described(state) and not homeless
