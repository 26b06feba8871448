"""What a distillation run needs to take seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.distil.run import distil
from tests.distil.tiny import tiny_recipe


@pytest.fixture(scope="session")
def student_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student after four steps of stage 1."""
    return distil(tiny_recipe(1, tiny_model_folder), tmp_path_factory.mktemp("distil") / "one")
