"""The rival: a bare Starlette handler that hands what it gets to aiokafka, unchecked and as JSON.

Run as `python -m tests.bench.bare_door` with the addresses in the environment. It has the same server, the
same producer and the same promise (202 after acks=all); it knows no keys, no limits and no faults.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.topics import EVENTS
from services import settings
from services.broker import start_producer
from services.logging import configure
from services.web_server import configuration

log = structlog.get_logger("services.bare")
decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


@asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[None]:
    """With a producer."""
    app.state.producer = await start_producer(settings.addresses().kafka_bootstrap)
    yield
    await app.state.producer.stop()


async def post_events(request: Request) -> Response:
    """One event or an array."""
    body = await request.body()
    events = [bytes(event) for event in decode(body)] if body.startswith(b"[") else [body]
    send = request.app.state.producer.send
    sent = [await send(EVENTS, event, key=event[:60]) for event in events]
    await asyncio.wait(sent)
    for each in sent:
        each.result()
    return Response(msgspec.json.encode({"taken": len(sent)}), 202, media_type="application/json")


if __name__ == "__main__":
    configure("bare", "bare", settings.LOG_LEVEL)
    listening = socket.create_server(("127.0.0.1", 0))
    log.info("served", address=f"http://127.0.0.1:{listening.getsockname()[1]}")
    app = Starlette(routes=[Route("/v1/events", post_events, methods=["POST"])], lifespan=connected)
    uvicorn.Server(configuration(app)).run(sockets=[listening])
