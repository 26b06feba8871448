"""Data and a model for fine-tuning in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conceptseg.train.run_folder import RunFolder
from tests.finetune.pictures import write_model, write_tiles


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    """One thread, and no figure of losses, which takes longer than the run."""
    threads, draw_losses = torch.get_num_threads(), RunFolder.draw_losses
    torch.set_num_threads(1)
    RunFolder.draw_losses = lambda self: None  # type: ignore[method-assign]
    yield
    torch.set_num_threads(threads)
    RunFolder.draw_losses = draw_losses  # type: ignore[method-assign]


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="package")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks, with a held-out split."""
    folder = tmp_path_factory.mktemp("tiles") / "tiles"
    write_tiles(folder, "train")
    return write_tiles(folder, "valid", images=4, seed=1)


@pytest.fixture(scope="package")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes only, one split."""
    return write_tiles(tmp_path_factory.mktemp("boxed") / "boxed", "train", images=8, masks=False)
