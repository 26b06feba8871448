"""What a training run reads: one batch per step, determined by (seed, step) alone.

So a run that is resumed at any step sees what it would have seen, and nothing about the data has to be saved.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

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
    loader: DataLoader[Batch | ConceptSegError] = DataLoader(
        _Told(data),
        batch_size=None,
        sampler=range(start, len(data)),
        num_workers=data.workers,
        prefetch_factor=4 if data.workers else None,
        worker_init_fn=_prepare_worker,
        generator=torch.Generator(),  # its own: the loader must not draw from the run's random numbers
    )
    for batch in loader:
        if isinstance(batch, ConceptSegError):
            raise batch
        yield batch


class _Told(Dataset["Batch | ConceptSegError"]):
    """Hands on what went wrong as a value: raised in a worker, torch would put a traceback around it."""

    def __init__(self, data: StepBatches) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, step: int) -> Batch | ConceptSegError:
        try:
            return self.data[step]
        except ConceptSegError as error:
            return error


def _prepare_worker(worker: int) -> None:
    """Ignore stop signals, and do not wait for threads that a forked process does not have.

    Ctrl-C and a scheduler's SIGTERM reach the whole process group; only the training process answers them.

    It still needs the batches of its last step, and ends the workers itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
