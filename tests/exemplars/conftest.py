"""A recipe of an alignment that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

TINY_ALIGN: dict[str, Any] = {
    "task": "align",
    "name": "tiny-align",
    "seed": 2,
    "train_steps": 5,
    "pool": {
        "scenes": 8,
        "resolution": 64,
        "render_size": 64,
        "pairs": 2,
        "questions_per_image": 1,
        "mask_size": 16,
    },
    "optimiser": {"lr": 1e-3, "warmup_steps": 1},
    "loss": {"masks": {"num_points": 32}},
    "ema_decay": 0.0,
    "precision": "float32",
    "weights_dtype": "float32",
    "save_every": 2,
    "log_every": 1,
    "validate_every": 5,
    "validation_batches": 1,
}


@pytest.fixture
def align_recipe(tmp_path: Path, tiny_model_folder: Path):
    """Writes TINY_ALIGN with some of its entries replaced."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "align.yaml"
        values = {**TINY_ALIGN, "model": str(tiny_model_folder), **changes}
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return write
