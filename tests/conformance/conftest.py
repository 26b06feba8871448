"""One kit for all tests of this folder, for each text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.conformance.kit import Kit
from conceptseg.conformance.make import make_kit


@pytest.fixture(scope="session")
def clip_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("clip-kit"))


@pytest.fixture(scope="session")
def mobileclip_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("mobileclip-kit"), "mobileclip")


@pytest.fixture
def kit(clip_kit: Path) -> Kit:
    return Kit(clip_kit)
