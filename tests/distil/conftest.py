"""What a distillation run needs to take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conceptseg.distil.run import distil
from conceptseg.train.run_folder import RunFolder
from tests.distil.tiny import tiny_recipe


@pytest.fixture(scope="package", autouse=True)
def no_figures() -> Iterator[None]:
    """Drawing losses takes longer than such a run."""
    draw = RunFolder.draw_losses
    RunFolder.draw_losses = lambda self: None  # type: ignore[method-assign]
    yield
    RunFolder.draw_losses = draw  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def student_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student after four steps of stage 1."""
    return distil(tiny_recipe(1, tiny_model_folder), tmp_path_factory.mktemp("distil") / "one")
