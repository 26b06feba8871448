"""Listen, serve, and end well."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from conceptseg.errors import OptionError
from conceptseg.serving.logs import log_as_json

GRACE = 10  # seconds that running requests get beyond their own time


def listen(host: str, port: int) -> socket.socket:
    """A socket to serve on.

    Raises:
        OptionError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise OptionError(f"cannot listen on {host}:{port}: {reason}") from error


def serve(app: FastAPI, listening: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, and finish the requests that were begun.

    Args:
        app: made by `app.make_app`.
        listening: from `listen`.
        started: called when requests are taken; the model may still be loading.

    Raises:
        ConceptSegError: the model cannot be loaded.
    """
    service = app.state.service
    log_as_json()
    grace = round(service.settings.timeout + GRACE)
    server = _Server(
        uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=grace,
        )
    )
    server.started_callback = started

    def stop() -> None:
        server.should_exit = True

    service.on_failure = stop
    server.run(sockets=[listening])
    if service.failure is not None:
        raise service.failure


class _Server(uvicorn.Server):
    started_callback: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_callback()
