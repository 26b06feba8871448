"""Ctrl-C, SIGTERM and the end of the given time, as a request that work honours when its step is done."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class StopRequest:
    """What is asked between two steps."""

    deadline: float = math.inf  # in seconds of `time.monotonic`
    signalled: bool = False

    @property
    def requested(self) -> bool:
        return self.signalled or time.monotonic() >= self.deadline

    def check(self) -> None:
        """Raises:
        KeyboardInterrupt: a stop is requested.
        """
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_requests(minutes: float | None = None) -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of ending the process; a Ctrl-C after either stops at once.

    Args:
        minutes: from now on, after which a stop is requested as well.

    Raises:
        KeyboardInterrupt: on that second Ctrl-C.
    """
    stop = StopRequest(math.inf if minutes is None else time.monotonic() + 60 * minutes)

    def request(number: int, frame: object) -> None:
        if stop.signalled and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped within a step; go on from the last checkpoint with --resume")
        stop.signalled = True

    try:
        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's business
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python, and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
