"""Commands run in this process, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptseg.cli.main import main
from tests.cli.finished import Finished, Run


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `conceptseg` with these arguments in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


@pytest.fixture
def photo(tmp_path: Path, picture: np.ndarray) -> Path:
    """photo.png, 90 x 60."""
    path = tmp_path / "photo.png"
    Image.fromarray(picture).save(path)
    return path
