"""Guards both web applications against clients that have shown no key: what they may take of the process.

What the applications do with a request is guarded by test_ingest_faults and test_web.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services import web_server

HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"
SECONDS = 0.5


async def echo(request: Request) -> Response:
    """The length of the body."""
    return Response(str(len(await request.body())))


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a server that waits for a head for a moment only."""
    monkeypatch.setattr(web_server, "HEAD_SECONDS", SECONDS)
    application = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
    server = uvicorn.Server(web_server.configuration(application))
    listening = web_server._listen("127.0.0.1", 0)
    serving = asyncio.create_task(server._serve([listening]))
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving


async def said(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """All that the server answers until it ends the connection, which this side leaves open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "parts",
    [(), (HEAD,), (HEAD + b"\r\n", HEAD), (HEAD + b"\r\n", b"\r\n"), (*[bytes([byte]) for byte in HEAD],)],
    ids=["nothing", "the first half", "half of the second", "an empty line", "byte by byte"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(port: int, parts: tuple[bytes, ...]) -> None:
    """Such connections stayed for ever, whoever opened them, until the process could open no more."""
    answer = await said(port, *parts, pause=0.02)
    assert answer.count(b"200 OK") == (b"".join(parts).count(b"\r\n\r\n") > 0)


@pytest.mark.parametrize("begin", [b"GET /", HEAD + b"X: ", HEAD], ids=["address", "header", "headers"])
async def test_a_head_without_end_is_refused(port: int, begin: bytes) -> None:
    """It was kept in memory however long it grew, before anybody was asked for a key."""
    more = b"x" * 65_536 if begin != HEAD else b"X: x\r\n" * 10_000
    answer = await said(port, begin, *[more] * 50)
    assert b"400 Bad Request" in answer or not answer
    assert b"200 OK" not in answer


async def test_a_body_may_take_longer_and_be_larger_than_a_head(port: int) -> None:
    """Only the head is bounded here; so is each head of a connection that is kept."""
    body = [b"x" * (web_server.HEAD_BYTES // 4)] * 12
    head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % sum(map(len, body))
    answer = await said(port, head, *body, HEAD + b"Connection: close\r\n\r\n", pause=SECONDS / 10)
    assert answer.count(b"200 OK") == 2
