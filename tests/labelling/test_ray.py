"""Labelling on a Ray cluster of this machine, in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conceptseg.errors import MissingDependencyError
from conceptseg.labelling import LabelSettings, label
from tests.own_process import passed_in_own_process


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds the actor to kill in /proc")
def test_a_cluster_gives_the_files_of_one_process_even_when_an_actor_is_killed() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    assert passed_in_own_process(Path(__file__).with_name("ray_cases.py"))


def test_without_ray_the_extra_is_named(
    photos: Path, tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "conceptseg\[ray\]"'):
        label([photos], settings, tmp_path / "out", ray="auto")
