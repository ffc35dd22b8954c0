"""What every measurement stands on: a local stack, filled topics, and a fresh database for each variant.

Promises: all variants of a run read the same records of the same topics into databases of their own. Needs
the local stack, whose processes it can weigh; `LEADLOG_TEST_STACK` names one that is up already.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import asyncpg

import infra
from schemas.contract import parse_line
from schemas.records import Record, TouchRecorded
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.publisher import Chunk, Publisher
from services.registry import Registry
from services.settings import Addresses
from services.store.locks import stop_feeding
from services.store.migrate import migrate
from services.store.pool import session
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, promote
from tests.fresh import drop_database, empty_topics
from tests.live import let_feed
from tests.servers import LocalServers, RunningServers

ROOT = Path(infra.__file__).parents[1]
DEFINITIONS = (ROOT / "projections" / "default.yaml", ROOT / "tests" / "vectors" / "definition.yaml")
"""The first is fed and promoted; with two versions the second is fed too."""
DAY = 86_400_000_000
START = 1_704_672_000_000_000
"""2024-01-08T00:00:00Z: the first day of the made-up journeys, which begin within a year."""
LONG = "crm:long"
"""The subject of the long journey."""
CHUNK_RECORDS = 1_000
STRIDE = 7_919
"""From one journey to the next in turn: far apart, and it meets all of them."""


def servers() -> RunningServers:
    """The stack named by `LEADLOG_TEST_STACK`, else one of this run's own; `close` ends that one only."""
    running = os.environ.get("LEADLOG_TEST_STACK")
    return RunningServers(Path(running)) if running else LocalServers()


async def run_parts(
    parts: Iterable[str], work: Mapping[str, Callable[[RunningServers], Awaitable[None]]]
) -> None:
    """Runs parts of a measurement, table by table, on one stack."""
    running = await asyncio.to_thread(servers)
    try:
        for part in parts:
            await work[part](running)
    finally:
        await asyncio.to_thread(running.close)


def made_up(events: int, seed: int = 1) -> Iterator[Record]:
    """Events as `leadlog generate --kinds usual` makes them, in the order of their arrival."""
    now = START + 7_300 * DAY  # all of it lies in the past, whatever today is
    for line in lines(Plan(seed, events, None, START, 365, kinds.shares("usual"))):
        yield parse_line(line.json, now=now, may_import=True)


def page_view(event_id: str, subject_id: str, instant: int) -> Record:
    """A touch as plain as they come."""
    return TouchRecorded(
        event_id=event_id,
        subject_id=subject_id,
        occurred_at=instant,
        recorded_at=instant,
        source="bench",
        touch_type="page_view",
        direction="inbound",
        channel="email",
    )


def long_journey(first: int, events: int) -> Iterator[Record]:
    """Page views of one subject, a minute apart."""
    for number in range(first, first + events):
        yield page_view(f"long-{number}", LONG, START + number * 60_000_000)


def first_touches(known: int, journeys: int) -> Iterator[Record]:
    """The first page view of each journey from number `known` on."""
    for number in range(known, journeys):
        yield page_view(f"first-{number}", f"web:{number}", START + number)


def later_touches(journeys: int, numbers: Iterable[int]) -> Iterator[Record]:
    """Page views of so many journeys in turn, after all that they had."""
    for number in numbers:
        instant = START + journeys * DAY // 1000 + number * 1_000_000
        yield page_view(f"later-{journeys}-{number}", f"web:{number * STRIDE % journeys}", instant)


async def fill(addresses: Addresses, records: Iterable[Record]) -> int:
    """Makes the topics anew with these records; returns how many there are."""
    await empty_topics(addresses.kafka_bootstrap)
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
    return await publish(addresses, records)


async def publish(addresses: Addresses, records: Iterable[Record]) -> int:
    """Sends records, as fast as that goes; returns how many were acknowledged."""
    published = 0

    def taken(count: int) -> None:
        nonlocal published
        published += count

    publisher = Publisher(addresses.kafka_bootstrap, taken=taken, say=print)
    await publisher.publish(_chunks(iter(records)))
    return published


async def _chunks(records: Iterator[Record]) -> AsyncIterator[Chunk[int]]:
    while chunk := list(islice(records, CHUNK_RECORDS)):
        yield Chunk(chunk, len(chunk))


async def settle(addresses: Addresses) -> None:
    """Does what Postgres would do later for rows just written, so that it is not measured with other rows."""
    connection = await asyncpg.connect(addresses.postgres_dsn)
    try:
        await connection.execute("vacuum analyze", timeout=None)
    finally:
        await connection.close()


@asynccontextmanager
async def database(addresses: Addresses, versions: int) -> AsyncIterator[Addresses]:
    """The addresses with a fresh database that feeds so many versions; it is dropped in the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    own = addresses._replace(postgres_dsn=f"{addresses.postgres_dsn.rpartition('/')[0]}/{name}")
    server = await asyncpg.connect(addresses.postgres_dsn)
    await server.execute(f"create database {name}")
    try:
        await _prepare(own.postgres_dsn, DEFINITIONS[:versions])
        yield own
    finally:
        await drop_database(server, name)  # makes a checkpoint, too: every variant starts after one
        await server.close()


async def _prepare(dsn: str, definitions: Sequence[Path]) -> None:
    await migrate(dsn, infra.MIGRATIONS)
    async with session(dsn) as connection:
        for file in definitions:
            entry = TimelineEntry(None, file.read_text())
            async with connection.transaction():
                await stop_feeding(connection)
                number = await create_version(connection, [entry])
                await let_feed(connection, number)
                if number == 1:
                    await promote(connection, number)
