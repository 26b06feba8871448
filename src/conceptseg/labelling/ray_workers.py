"""Workers on a Ray cluster: actors that each load the model once and get paths, not pixels.

Ray Core and not Ray Data: the ledger already says what is left, what failed and how often, in the order in
which answers are kept; a batch at which an actor died must come back as failed, and not be tried for ever.
Images and models are read where an actor runs, so their paths must be the same on every machine.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from conceptseg.errors import ConceptSegError, OptionError
from conceptseg.labelling.answer import answer_batch
from conceptseg.labelling.ledger import Outcome, Task
from conceptseg.labelling.settings import LabelSettings
from conceptseg.labelling.workers import MOST_DEATHS
from conceptseg.segmenter import Segmenter

SECONDS_TO_CONNECT = 10


class Answerer:
    """What runs in an actor."""

    def __init__(self, settings: LabelSettings) -> None:
        self._settings = settings
        self._segmenter: Segmenter | None = None

    def load(self) -> None:
        """Apart from the constructor, so that a model that cannot be loaded says why."""
        torch.set_num_threads(1)
        self._segmenter = self._settings.model.load()

    def answer(self, batch: list[Task]) -> list[Outcome]:
        assert self._segmenter is not None
        return answer_batch(self._segmenter, self._settings, batch)


class RayWorkers:
    """To be used in a `with`, at whose end no actor is left."""

    def __init__(self, settings: LabelSettings, address: str, workers: int) -> None:
        """Args:
        settings: sent to every actor once.
        address: as `ray.init` takes it: "auto", "HOST:PORT", "ray://HOST:PORT"; "local": one started here.
        workers: how many actors at most, of one core each; 0: as many as the cluster has cores, but one.

        Raises:
            OptionError: there is no cluster at the address.
        """
        import ray

        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except (OSError, ValueError, RuntimeError, OverflowError) as error:
                reason = " ".join(str(error).split())
                raise OptionError(f"no Ray cluster at {address!r} (--ray): {reason}") from error
        self._wanted = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
        kept = settings.model.kept()
        model = replace(settings.model, name=kept["name"], geometry_from=kept["geometry_from"])
        self._settings = ray.put(replace(settings, model=model))
        gpus = int(model.device.startswith("cuda"))
        self._actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Answerer)
        self._actors: list[Any] = []
        self._idle: list[Any] = []  # of them, those that have loaded the model and wait for a batch
        # What is awaited -> its actor and batch; no batch while it loads.
        self._busy: dict[Any, tuple[Any, list[Task]]] = {}
        self._deaths = 0

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def answer(self, batches: Iterator[list[Task]]) -> Iterator[list[Outcome]]:
        """As `LocalWorkers.answer`."""
        waiting = next(batches, None)
        # An actor that the cluster has no room for yet is not waited for at the end.
        while waiting is not None or any(batch for _, batch in self._busy.values()):
            while waiting is not None and self._idle:
                actor = self._idle.pop()
                self._busy[actor.answer.remote(waiting)] = (actor, waiting)
                waiting = next(batches, None)
            while waiting is not None and len(self._actors) < self._wanted:
                actor = self._actor.remote(self._settings)
                self._actors.append(actor)
                self._busy[actor.load.remote()] = (actor, [])
            (ended, *_), _ = self._ray.wait(list(self._busy), num_returns=1)
            actor, batch = self._busy.pop(ended)
            try:
                outcomes = self._ray.get(ended)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, ConceptSegError) else error from None
            except self._ray.exceptions.RayActorError as error:
                yield self._buried(actor, batch, error)
                continue
            self._idle.append(actor)
            if batch:
                self._deaths = 0
                yield outcomes

    def _buried(self, actor: Any, batch: list[Task], error: Exception) -> list[Outcome]:
        self._actors.remove(actor)
        self._deaths += 1
        if self._deaths >= MOST_DEATHS or not batch:
            when = "one after the other" if batch else "before they had loaded the model"
            reason = " ".join(str(error).split())
            raise OptionError(f"actors of the cluster end {when}: {reason}")
        return [Outcome(task.id, "failed", "the actor of the cluster that had it ended") for task in batch]


def _knock(address: str) -> None:
    """Ray itself tries for minutes to reach a cluster that is not there.

    Raises:
        OSError: nobody listens at HOST:PORT.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()
