"""What a training run needs to take seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conceptseg.train import run
from conceptseg.train.job import Work, run_job
from conceptseg.train.recipe import load_recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest
from tests.train.tiny import ChangedJob, make_quick, write_recipe


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    threads, vocabulary = torch.get_num_threads(), run.scene_vocabulary
    make_quick()
    yield
    torch.set_num_threads(threads)
    run.scene_vocabulary = vocabulary  # type: ignore[assignment]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., RunFolder]:
    """Run the tiny recipe, some of its entries replaced, in `tmp_path/run`."""

    def train(
        resume: bool = False,
        change: Callable[[Work], object] = lambda work: None,
        folder: type[RunFolder] = RunFolder,
        stop: StopRequest | None = None,
        **changes: Any,
    ) -> RunFolder:
        recipe = load_recipe(write_recipe(tmp_path / "tiny.yaml", **changes))
        job = ChangedJob(recipe, folder(tmp_path / "run"), change)
        run_job(job, resume, stop)
        return job.folder

    return train
