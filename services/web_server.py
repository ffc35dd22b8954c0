"""A web application as a process: the socket, the signals that end it, and its exit code.

Promises: SIGTERM and SIGINT let the requests in hand finish, within a bounded time, and end it with exit code
0; a defect ends it with 1. The head of a request is bounded in bytes and time, so that nobody takes memory or
a connection for long who has shown no key yet. Leaves bodies, and what is served, to the application.
"""

import asyncio
import gc
import signal
import socket

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services import settings
from services.daemon import PortTaken
from services.logging import configure
from services.plain_words import plainly

KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept for so long: longer than the 60 s of the usual proxies, which then end it."""
HEAD_SECONDS = 30
"""A head that is not complete by then will not be waited for, be it of the first request or a later one."""
HEAD_BYTES = 64 * 1024
"""Of the first line and the headers together: eight times what the usual proxies pass on."""
WAITING_CONNECTIONS = 2048
"""Connections that the system holds until they are accepted."""

log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """uvicorn's, which alone waits for the end of a head for ever, and keeps it however long it grows."""

    _head: asyncio.TimerHandle | None = None
    """Ends the connection unless the head that is awaited comes."""
    _head_bytes: int | None = None
    """Of the head that has begun; None while none has."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._head_bytes
        super().data_received(data)
        if before is not None and self._head_bytes is not None:
            self._head_bytes = before + len(data)
            if self._head_bytes > HEAD_BYTES:
                self.send_400_response(f"The head of the request has more than {HEAD_BYTES} bytes.")
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_came(self) -> None:
        self._head_bytes = None
        if self._head is not None:
            self._head.cancel()
            self._head = None


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
        http=Protocol,
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
        why = plainly(error)
        raise PortTaken(
            f"cannot listen on port {port} of {host}: {why}. Choose by --host and --port (0: a free one)"
        ) from error


def _already_heard(number: int, _: object) -> None:
    """uvicorn stops for a signal and then raises it once more, which would end the process with its code."""
    log.info("stopped", signal=signal.Signals(number).name)
