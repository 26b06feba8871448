"""A recipe whose run takes seconds: a model of 60 thousand weights on a few small scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from conceptseg.data.batch import Batch
from conceptseg.data.scene_batches import scene_vocabulary
from conceptseg.data.step_batches import StepBatches
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train import run
from conceptseg.train.job import Work
from conceptseg.train.run import SceneJob
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest

draw_losses = RunFolder.draw_losses
STEPS, SAVE_EVERY = 7, 3

# Dropout and sampled mask points are there because they draw random numbers, which a resume has to repeat.
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 4,
    "model": {
        "preset": "nano",
        "architecture": {
            "width": 32,
            "vision": {
                "stem_width": 8,
                "widths": [8, 16, 24, 32],
                "blocks": [1, 1, 1, 1],
                "pyramid_width": 32,
            },
            "text": {"vocab_size": 512, "width": 32, "depth": 1, "heads": 2, "mlp_width": 32},
            "exemplar": {"layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.1},
            "fusion": {"layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.1},
            "decoder": {"layers": 2, "heads": 2, "mlp_width": 32, "queries": 12},
            "scoring": {"mlp_width": 32},
            "mask_head": {"heads": 2},
        },
    },
    "preprocessing": {"resolution": 64},
    "data": {
        "workers": 0,
        "stages": [
            {
                "steps": 4,
                "resolution": 64,
                "render_size": 64,
                "images": 2,
                "questions": 2,
                "difficulty": [0.0, 0.5],
                "mask_size": 16,
            },
            {
                "steps": 3,
                "resolution": 96,
                "render_size": 80,
                "images": 4,
                "questions": 1,
                "mask_size": 24,
                "one_to_many": False,
            },
        ],
    },
    "optimiser": {"lr": 1e-3, "warmup_steps": 2},
    "loss": {"masks": {"num_points": 32}},
    "ema_decay": 0.9,
    "save_every": SAVE_EVERY,
    "log_every": 1,
    "validate_every": 4,
    "validation_batches": 2,
}


def write_recipe(path: Path, **changes: Any) -> Path:
    """TINY as a file, some of its entries replaced."""
    path.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return path


class Repeated:
    """The first batch at every step."""

    workers = 0

    def __init__(self, data: StepBatches) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, step: int) -> Batch:
        return self.data[0]


@dataclass
class ChangedJob(SceneJob):
    """Training on scenes with something changed once all is made."""

    change: Callable[[Work], object] = lambda work: None

    def build(self, process: int, processes: int) -> Work:
        work = super().build(process, processes)
        self.change(work)
        return work


class StopAfter(StopRequest):
    """Requests a stop when it is asked so many times: after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    @property
    def requested(self) -> bool:
        self.steps -= 1
        return self.steps <= 0


def make_quick() -> None:
    """One thread, a tokenizer of few phrases, and no figure, which takes longer than the run."""
    torch.set_num_threads(1)
    RunFolder.draw_losses = lambda self: None  # type: ignore[method-assign]
    run.scene_vocabulary = lambda: scene_vocabulary(20)  # type: ignore[assignment]


def tiny_tokenizer(context_length: int = 16) -> Tokenizer:
    return Tokenizer(train_tokenizer(scene_vocabulary(5), 512), context_length)
