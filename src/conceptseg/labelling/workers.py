"""Local workers: this process, or several that each load the model once and answer batch after batch.

Each of several has a pipe of its own, so when one dies it is known which batch it had. A worker ends when its
pipe does: none outlives the process that started it, however that ended.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from conceptseg.errors import ConceptSegError, OptionError
from conceptseg.labelling.answer import answer_batch
from conceptseg.labelling.ledger import Outcome, Task
from conceptseg.labelling.settings import LabelSettings
from conceptseg.segmenter import Segmenter

MOST_DEATHS = 20  # of workers, without a batch answered in between: then it is not the images


class ThisProcess:
    """No worker beside this process: for a GPU, and where one model in memory is enough."""

    def __init__(self, settings: LabelSettings, segmenter: Segmenter) -> None:
        self._settings, self._segmenter = settings, segmenter

    def answer(self, batches: Iterator[list[Task]]) -> Iterator[list[Outcome]]:
        for batch in batches:
            yield answer_batch(self._segmenter, self._settings, batch)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    batch: list[Task] = field(default_factory=list)  # in flight
    ready: bool = False


class LocalWorkers:
    """To be used in a `with`, at whose end no worker is left."""

    def __init__(self, settings: LabelSettings, workers: int) -> None:
        """Args:
        workers: how many processes at most; they are started as there is work, each with one thread.
        """
        # Plainly pickled: torch would hand tensors over through files that end with this process.
        self._settings = pickle.dumps(settings)
        self._wanted = workers
        self._workers: list[_Worker] = []
        self._deaths = 0

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def answer(self, batches: Iterator[list[Task]]) -> Iterator[list[Outcome]]:
        """Args:
            batches: asked for the next one as soon as a worker is free.

        Returns:
            Iterator of what became of each batch, in the order in which they end. A batch at which a worker
            died comes back as failed.

        Raises:
            ConceptSegError: the model cannot be loaded in a worker.
            OptionError: workers die one after the other.
        """
        waiting = next(batches, None)
        while waiting is not None or any(worker.batch for worker in self._workers):
            while waiting is not None and len(self._workers) < self._wanted:
                self._workers.append(self._start())
            for worker in self._workers:
                if waiting is not None and worker.ready and not worker.batch:
                    worker.batch = waiting
                    with suppress(OSError):  # it has died; that is heard of below
                        worker.pipe.send(waiting)
                    waiting = next(batches, None)
            by_pipe = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(by_pipe)):
                outcomes = self._hear(by_pipe[pipe])  # type: ignore[index]  # they are what was waited for
                if outcomes:
                    yield outcomes
                    waiting = next(batches, None) if waiting is None else waiting

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork would share pipes, and threads of torch
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, self._settings), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def _hear(self, worker: _Worker) -> list[Outcome]:
        try:
            message: Any = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(message, ConceptSegError):
            raise message
        if message is None:  # the model is loaded
            worker.ready = True
            return []
        worker.batch, self._deaths = [], 0
        outcomes: list[Outcome] = message
        return outcomes

    def _bury(self, worker: _Worker) -> list[Outcome]:
        worker.process.join()
        self._workers.remove(worker)
        self._deaths += 1
        how = f"the worker process ended with exit code {worker.process.exitcode}"
        if self._deaths >= MOST_DEATHS or not worker.ready:
            when = "one after the other" if worker.ready else "before it had loaded the model"
            raise OptionError(f"{how}, {when}; with less memory to spare, give fewer --workers")
        return [Outcome(task.id, "failed", how) for task in worker.batch]


def work(pipe: Connection, pickled_settings: bytes) -> None:
    """What a worker does: load, say so, and answer until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the main process says when to end
    torch.set_num_threads(1)
    settings: LabelSettings = pickle.loads(pickled_settings)
    try:
        segmenter = settings.model.load()
    except ConceptSegError as error:
        pipe.send(error)
        return
    try:
        pipe.send(None)
        while True:
            pipe.send(answer_batch(segmenter, settings, pipe.recv()))
    except (EOFError, OSError):  # nobody is there any more
        return
