"""Pictures, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.labelling.settings import LabelSettings
from tests.labelling.pictures import two_phrases, write_pictures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten of 48 x 32."""
    return write_pictures(tmp_path / "photos")


@pytest.fixture
def settings(tiny_model_folder: Path) -> LabelSettings:
    """Two phrases, and a threshold so low that something is found."""
    return two_phrases(tiny_model_folder)
