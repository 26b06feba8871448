"""At most so many requests at once, each in its time: what comes on top is told when to ask again."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conceptseg.serving.metrics import Metrics
from conceptseg.serving.problems import Problem, busy
from conceptseg.serving.settings import Settings


class Queue:
    """Counts the POST requests, which are those that cost something, before their bodies are read."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.in_flight = 0
        self.usual_seconds = 1.0  # moving average of how long a request takes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self.in_flight >= self.settings.queue:
            self.metrics.refused.inc()
            full = f"all {self.settings.queue} places in the queue are taken; ask again later"
            await busy(full, self.usual_seconds).response()(scope, receive, send)
            return
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        begun = time.monotonic()
        self._count(1)
        try:
            await asyncio.wait_for(self.app(scope, receive, watched), self.settings.timeout)
        except asyncio.TimeoutError:
            if answered:
                raise
            late = f"no answer within {self.settings.timeout:g} seconds"
            await Problem(504, late).response()(scope, receive, send)
        finally:
            self._count(-1)
            self.usual_seconds += 0.2 * (time.monotonic() - begun - self.usual_seconds)

    def _count(self, change: int) -> None:
        self.in_flight += change
        self.metrics.in_flight.set(self.in_flight)
