"""What a training run reads: one batch per step, determined by (seed, step) alone.

So a run that is resumed at any step sees what it would have seen, and nothing about the data has to be saved.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from conceptseg.data.batch import Batch
from conceptseg.errors import ConceptSegError


class StepBatches(Protocol):
    """The batches of a run, for one of its processes."""

    workers: int  # processes that make them; 0 makes them in the training process

    def __len__(self) -> int:
        """Steps of the run."""

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, counted from 0; the same one whenever it is asked for."""


def batches_from(data: StepBatches, start: int) -> Generator[Batch, None, None]:
    """Batches `start`, `start + 1`, ... in order, made ahead by worker processes.

    Closing the generator ends the workers.
    """
    dataset: Any = data  # torch asks for its own base class, and uses no more than these two methods
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, len(data)),
        num_workers=data.workers,
        prefetch_factor=4 if data.workers else None,
        worker_init_fn=_prepare_worker,
        generator=torch.Generator(),  # its own: the loader must not draw from the run's random numbers
    )
    try:
        yield from loader
    except ConceptSegError as error:
        raise _as_it_was(error) from error


def _as_it_was(error: ConceptSegError) -> ConceptSegError:
    """A worker's error without the traceback that torch puts around its message."""
    lines = str(error).rstrip().splitlines()
    if len(lines) < 2 or "DataLoader worker" not in lines[0]:
        return error
    return type(error)(lines[-1].partition(": ")[2])


def _prepare_worker(worker: int) -> None:
    """Ignore stop signals, and do not wait for threads that a forked process does not have.

    Ctrl-C and a scheduler's SIGTERM reach the whole process group; only the training process answers them.

    It still needs the batches of its last step, and ends the workers itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
