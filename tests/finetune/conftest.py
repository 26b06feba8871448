"""Fine-tuning in seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from conceptseg.train.run_folder import RunFolder


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    """One thread, and no figure of losses, which takes longer than the run."""
    threads, draw_losses = torch.get_num_threads(), RunFolder.draw_losses
    torch.set_num_threads(1)
    RunFolder.draw_losses = lambda self: None  # type: ignore[method-assign]
    yield
    torch.set_num_threads(threads)
    RunFolder.draw_losses = draw_losses  # type: ignore[method-assign]
