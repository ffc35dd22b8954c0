"""HTTP load from one process, made to cost little: prepared bytes on kept connections.

Promises: `flood` keeps a number of requests under way and gives the time that all took; `trickle` sends at
fixed moments whatever became of the requests before, and counts from those moments, so that a stall counts
for every request that it holds up. A response that is not the expected one ends the measurement.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import cast
from urllib.parse import urlsplit

EXPECTED = b"HTTP/1.1 202 "


class Unexpected(AssertionError):
    """A response of another kind."""


class Connection(asyncio.Protocol):
    """One request at a time over a kept connection."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._waiting: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is called once it is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Is called with a part of a response."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0 or len(self._received) < head + 4 + _length(self._received[:head]):
            return
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        if self._received.startswith(EXPECTED):
            waiting.set_result(None)
        else:
            waiting.set_exception(Unexpected(bytes(self._received[:500])))
        self._received.clear()

    def connection_lost(self, error: Exception | None) -> None:
        """Is called once it is closed."""
        if self._waiting is not None:
            self._waiting.set_exception(Unexpected(f"connection lost: {error}"))

    async def send(self, request: bytes) -> None:
        """Sends a request and waits for the whole response."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._waiting

    def close(self) -> None:
        """Closes it."""
        assert self._transport is not None
        self._transport.close()


def request(url: str, key: str, body: bytes) -> bytes:
    """A request for events as bytes."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def flood(url: str, requests: Sequence[bytes], at_once: int) -> float:
    """Sends all requests, so many at once; the seconds until the last response."""
    connections = [await _open(url) for _ in range(at_once)]
    left = iter(requests)
    began = time.perf_counter()
    await asyncio.gather(*(_send_all(connection, left) for connection in connections))
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return seconds


async def trickle(url: str, requests: Sequence[bytes], per_second: float, at_most: int) -> list[float]:
    """Milliseconds from the moment at which each request was due until its response was whole."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    connections = [await _open(url) for _ in range(at_most)]
    for connection in connections:
        idle.put_nowait(connection)

    async def send(request: bytes, due: float) -> float:
        connection = await idle.get()
        await connection.send(request)
        idle.put_nowait(connection)
        return (time.perf_counter() - due) * 1e3

    began, sent = time.perf_counter(), []
    for number, each in enumerate(requests):
        due = began + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sent.append(asyncio.create_task(send(each, due)))
    found = await asyncio.gather(*sent)
    for connection in connections:
        connection.close()
    return found


async def _open(url: str) -> Connection:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, address.hostname, address.port)
    return connection


async def _send_all(connection: Connection, requests: Iterable[bytes]) -> None:
    for each in requests:
        await connection.send(each)


def _length(head: bytearray) -> int:
    at = head.lower().index(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0])
