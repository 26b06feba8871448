"""The same labels from a Ray cluster; `test_ray.py` runs this file."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from conceptseg.errors import ConceptSegError, OptionError
from conceptseg.labelling.run import label
from conceptseg.labelling.settings import LabelSettings, ModelChoice
from tests.labelling.pictures import files_of


@pytest.fixture(autouse=True, scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def actors() -> list[int]:
    """Process ids of the actors that answer."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ray::Answerer" in command:
                found.append(int(entry.name))
    return found


def test_the_files_are_those_of_one_process(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    alone = label([photos], settings, tmp_path / "alone", batch_size=2)
    report = label([photos], settings, tmp_path / "ray", batch_size=2, ray="auto")
    assert report.states == alone.states
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "alone")


def test_an_actor_that_is_killed_costs_an_attempt_and_no_answer(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    alone = label([photos], settings, tmp_path / "alone", batch_size=1)
    killed: list[int] = []

    def kill_one(done: int, wanted: int) -> None:
        if done and not killed:
            killed.extend(actors()[:1])
            os.kill(killed[0], signal.SIGKILL)

    report = label([photos], settings, tmp_path / "ray", batch_size=1, ray="auto", progress=kill_one)
    assert killed and report.states == alone.states
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "alone")


def test_a_model_that_an_actor_cannot_load_is_named(
    photos: Path, tmp_path: Path, settings: LabelSettings, tiny_model_folder: Path
) -> None:
    segmenter = settings.model.load()
    gone = LabelSettings(settings.concepts, ModelChoice(str(tmp_path / "nowhere")))
    with pytest.raises(ConceptSegError, match="nowhere"):
        label([photos], gone, tmp_path / "ray", ray="auto", segmenter=segmenter)


def test_no_cluster_at_the_address_is_one_line(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    ray.shutdown()
    with pytest.raises(OptionError, match="no Ray cluster at '127.0.0.1:1'") as told:
        label([photos], settings, tmp_path / "ray", ray="127.0.0.1:1")
    assert "\n" not in str(told.value)
