"""The door as a web application: which path does what, and the way of a request for events.

Promises: whatever is in the way of a request ends it with nothing taken, but for what Kafka had acknowledged
already. Leaves each step to the module of its name, and the process to `server`.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import repeat

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.records import Record
from services import settings
from services.broker import INPUT_PARTITIONS, Ends
from services.ingest import metrics, openapi, rejections
from services.ingest.answers import (
    LIMITS,
    NotTaken,
    Result,
    Status,
    answer_response,
    json_response,
    problem_response,
)
from services.ingest.body import read_events
from services.ingest.checking import check, results
from services.ingest.gate import Gate
from services.ingest.health import Health
from services.ingest.keyring import Keyring
from services.ingest.lookout import Lookout
from services.ingest.sender import Sender
from services.registry import Registry
from services.settings import Addresses

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, the header `traceparent`; another one is not passed on."""

_VALID: Iterator[Status] = repeat("valid")


class Door:
    """What lives as long as the process."""

    def __init__(self, addresses: Addresses) -> None:
        self._dsn = addresses.postgres_dsn
        self.gate = Gate(settings.INGEST_HELD_BYTES)
        self.keyring = Keyring(addresses.postgres_dsn)
        self.sender = Sender(addresses.kafka_bootstrap)
        self._ends = Ends(addresses.kafka_bootstrap)
        self._registry = Registry(addresses.registry_url)
        self.lookout = Lookout(
            {"kafka": self._ask_kafka, "registry": self._ask_registry, "postgres": self.keyring.read}
        )

    async def close(self) -> None:
        """Waits for what is under way and closes all connections."""
        await self.sender.close()
        await self._ends.close()
        await self._registry.close()
        self.keyring.close()

    async def post_events(self, request: Request) -> Response:
        """Events: checked, and taken unless it is a dry run."""
        with metrics.SECONDS.time():
            self.lookout.require_all()
            key = await self.keyring.judge(request.headers.get("authorization"))
            is_dry_run = bool(request.scope["query_string"]) and _is_dry_run(request)
            with self.gate.enter() as room:
                checked = await check(await read_events(request, room), key)
                records = [each for each in checked if not isinstance(each, Result)]
                statuses = _VALID if is_dry_run else await self._take(records, _trace(request.headers))
            return answer_response(results(checked, statuses), is_dry_run)

    async def get_rejections(self, request: Request) -> Response:
        """What the projector could not take of the key's source."""
        key = await self.keyring.judge(request.headers.get("authorization"))
        query = _query(request, ("since", "after"))
        return json_response(await rejections.read(self._dsn, key, query))

    async def _take(self, records: list[Record], traceparent: str | None) -> Iterator[Status]:
        acknowledged = await self.sender.send(records, traceparent) if records else []
        return ("taken" if each else "unacknowledged" for each in acknowledged)

    async def _ask_kafka(self) -> None:
        await self._ends.ask(INPUT_PARTITIONS)
        await self.sender.connect()

    async def _ask_registry(self) -> None:
        if "registry" in self.lookout.away:  # another one, or an empty one, may have taken its place
            await self._registry.verify()
        else:
            await self._registry.answer()


def create_app(addresses: Addresses) -> Starlette:
    """The application; its lifespan opens and closes the connections."""
    door = Door(addresses)
    health = Health(door.lookout, door.sender)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(door.lookout.run())
        looking.add_done_callback(_end_process)
        yield
        looking.cancel()
        await asyncio.wait([looking])
        await door.close()
        if not looking.cancelled():
            looking.result()

    app = Starlette(
        routes=[
            Route("/v1/events", door.post_events, methods=["POST"]),
            Route("/v1/limits", get_limits),
            Route("/v1/rejections", door.get_rejections),
            Route("/openapi.json", get_openapi),
            Route("/livez", health.livez),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
        ],
        lifespan=lifespan,
        exception_handlers={NotTaken: _not_taken, HTTPException: _http_problem, Exception: _defect},
    )
    app.router.redirect_slashes = False  # it would send the client, and its key, from a proxy's HTTPS to HTTP
    return app


def _end_process(looking: asyncio.Task[None]) -> None:
    """A look-out ends by itself only through a defect; the process is started again then."""
    if not looking.cancelled():
        signal.raise_signal(signal.SIGTERM)


async def get_limits(_: Request) -> Response:
    """What the door takes at most."""
    return json_response(LIMITS)


async def get_openapi(_: Request) -> Response:
    """The OpenAPI document of the door."""
    return json_response(openapi.document())


def _query(request: Request, known: Collection[str]) -> dict[str, str]:
    """The parameters of a query. Raises NotTaken 400 for one that is mistyped or given twice."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            detail = f"{name[:50]!r} is no parameter of this path, expected {' or '.join(known)}"
            raise NotTaken(400, "Bad query", detail)
        if name in query:
            raise NotTaken(400, "Bad query", f"{name} is given twice, expected once")
        query[name] = value
    return query


def _is_dry_run(request: Request) -> bool:
    given = _query(request, ("dry_run",)).get("dry_run", "false")
    if given not in ("true", "false"):
        raise NotTaken(400, "Bad query", f"dry_run is {given[:50]!r}, expected true or false")
    return given == "true"


def _trace(headers: Mapping[str, str]) -> str | None:
    given = headers.get("traceparent", "")
    return given if TRACEPARENT.fullmatch(given) else None


async def _not_taken(_: Request, error: Exception) -> Response:
    assert isinstance(error, NotTaken)
    return problem_response(error)


async def _http_problem(request: Request, error: Exception) -> Response:
    """A path or method that there is not."""
    assert isinstance(error, HTTPException)
    detail = f"there is no {request.method} {request.url.path[:200]}: see GET /openapi.json for what there is"
    return problem_response(NotTaken(error.status_code, error.detail, detail, error.headers))


async def _defect(_: Request, error: Exception) -> Response:
    """Starlette raises the error again, so that it is logged with its traceback."""
    detail = (
        "a defect of the door; what was sent may or may not have been taken. Send it again with the same ids"
    )
    return problem_response(NotTaken(500, "Defect", detail))
