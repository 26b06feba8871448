"""A labelling that was killed at any moment ends, run again, in the files of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conceptseg.labelling.run import label
from conceptseg.labelling.settings import LabelSettings
from tests.labelling import killed
from tests.labelling.pictures import FORMATS, files_of

ROOT = Path(__file__).parents[2]
MOMENTS = 8

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def run_killed(model: Path, photos: Path, folder: Path, *moments: int) -> str:
    command = [sys.executable, "-m", killed.__name__, model, photos, folder, *moments]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_killed_at_several_moments_it_ends_in_the_same_files(
    tiny_model_folder: Path, photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    steps = int(run_killed(tiny_model_folder, photos, tmp_path / "out", 0))
    whole = files_of(tmp_path / "out" / "0")
    assert len(whole) == 3 + 1 + 2 * 10 + 10 + 3 + 1  # coco, data.yaml, yolo, labelme, label studio, sheet
    moments = [1 + steps * number // MOMENTS for number in range(MOMENTS)]
    run_killed(tiny_model_folder, photos, tmp_path / "out", *moments)
    segmenter = settings.model.load()
    answered = []
    for moment in moments:
        out = tmp_path / "out" / str(moment)
        report = label(
            [photos], settings, out, formats=FORMATS, batch_size=2, shard_size=4, segmenter=segmenter
        )
        answered.append(report.answered)
        assert files_of(out) == whole, f"killed at step {moment} of {steps}"
        assert report.states == {"done": 10, "left": 0, "failed": 0, "skipped": 0}
    assert answered == sorted(answered, reverse=True)  # the later it was killed, the less is left
    assert answered[0] == 10 and answered[-1] == 0


def test_a_worker_that_is_killed_costs_an_attempt_and_no_answer(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    alone = label([photos], settings, tmp_path / "alone", batch_size=1)
    killed_one = []

    def kill_one(done: int, wanted: int) -> None:
        if done and not killed_one:
            (worker,) = worker_processes()
            killed_one.append(worker)
            os.kill(worker, signal.SIGKILL)

    report = label([photos], settings, tmp_path / "killed", batch_size=1, workers=1, progress=kill_one)
    assert killed_one and report.states == alone.states
    assert worker_processes() == []
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "alone")


def worker_processes() -> list[int]:
    import multiprocessing

    return [process.pid for process in multiprocessing.active_children() if process.pid]
