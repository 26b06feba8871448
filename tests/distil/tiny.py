"""Distillation runs that take seconds: a teacher of 60 thousand random weights, a student of fewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conceptseg.data.question_config import QuestionConfig
from conceptseg.distil.recipe import DistilDataConfig, DistilRecipe
from conceptseg.train.run_config import OptimiserConfig

SMALLER: dict[str, Any] = {
    "vision": {"stem_width": 4, "widths": [4, 8, 12, 16], "blocks": [1, 1, 1, 1], "pyramid_width": 32},
    "text": {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16},
}
ENCODERS = ("vision_encoder", "neck", "text_encoder")


def tiny_recipe(
    stage: int, teacher: Path, student: str | Path = "nano-student", **changes: Any
) -> DistilRecipe:
    """Four steps on two scenes of 64 pixels."""
    data = {"images": 2, "questions": 2, "render_size": 64, "mask_size": 16, "workers": 0}
    data["kinds"] = QuestionConfig(absent_phrase=0.4, boxes=0.3)
    data.update(changes.pop("data", {}))
    values: dict[str, Any] = {
        "stage": stage,
        "name": f"tiny-{stage}",
        "seed": 3,
        "teacher": str(teacher),
        "student": str(student),
        "architecture": SMALLER if stage == 1 and student == "nano-student" else {},
        "resolution": 64,
        "steps": 4,
        "trainable": ENCODERS if stage == 1 else (),
        "optimiser": OptimiserConfig(lr=1e-3, warmup_steps=1),
        "ema_decay": 0.0,
        "save_every": 2,
        "log_every": 1,
        "validate_every": 4,
        "validation_batches": 1,
        "weights_dtype": "float32",
        "masks": 3,
    }
    return DistilRecipe(data=DistilDataConfig(**data), **{**values, **changes})
