"""The notebooks, in a process of their own: as with the pages, an event loop that waits for a child."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.own_process import passed_in_own_process


@pytest.mark.slow
def test_every_notebook_runs_from_top_to_bottom() -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    passed = passed_in_own_process(Path(__file__).with_name("notebook_cases.py"), seconds=1800)
    assert passed == len(list((Path(__file__).parents[2] / "examples").glob("*.ipynb")))
