"""A web application as a process: the socket, the signals that end it, and its exit code.

Promises: SIGTERM and SIGINT let the requests in hand finish, within a bounded time, and end it with exit code
0; a defect ends it with 1. Leaves what is served to the application.
"""

import gc
import os
import signal
import socket

import structlog
import uvicorn
from starlette.applications import Starlette

from services import settings
from services.daemon import PortTaken
from services.logging import configure

KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept for so long: longer than the 60 s of the usual proxies, which then end it."""
WAITING_CONNECTIONS = 2048
"""Connections that the system holds until they are accepted."""

log = structlog.get_logger(__name__)


def serve(name: str, app: Starlette, host: str, port: int) -> int:
    """Serves until a signal ends it; returns the exit code. Raises PortTaken."""
    configure(name, name, settings.LOG_LEVEL)
    listening = _listen(host, port)
    log.info("served", address=url_of(*listening.getsockname()[:2]))
    server = uvicorn.Server(configuration(app))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_heard)
    gc.freeze()
    server.run(sockets=[listening])
    return 1 if server.lifespan.should_exit else 0


def configuration(app: Starlette) -> uvicorn.Config:
    """How uvicorn serves an application."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=WAITING_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.SHUTDOWN_SECONDS,
    )


def url_of(host: str, port: int) -> str:
    """The base of all paths."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise PortTaken(
            f"cannot listen on port {port} of {host}: {why}. Choose by --host and --port (0: a free one)"
        ) from error


def _already_heard(number: int, _: object) -> None:
    """uvicorn stops for a signal and then raises it once more, which would end the process with its code."""
    log.info("stopped", signal=signal.Signals(number).name)
