"""What a training run needs to take seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conceptseg.train import run
from conceptseg.train.run import train_recipe
from conceptseg.train.run_folder import RunFolder
from tests.train.tiny import draw_losses, make_quick, write_recipe


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    threads, vocabulary = torch.get_num_threads(), run.scene_vocabulary
    make_quick()
    yield
    torch.set_num_threads(threads)
    run.scene_vocabulary = vocabulary  # type: ignore[assignment]
    RunFolder.draw_losses = draw_losses  # type: ignore[method-assign]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., RunFolder]:
    """Run the tiny recipe, some of its entries replaced, in `tmp_path/run`."""

    def train(resume: bool = False, **changes: Any) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        train_recipe(write_recipe(tmp_path / "tiny.yaml", **changes), out=folder.path, resume=resume)
        return folder

    return train
