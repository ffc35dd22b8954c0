"""What every measurement stands on: a local stack, filled topics, and a fresh database for each variant.

Promises: all variants of a run read the same records of the same topics into databases of their own. Needs
the local stack, whose processes it can weigh; `LEADLOG_TEST_STACK` names one that is up already.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import asyncpg

import infra
from schemas.contract import parse_line
from schemas.records import Record
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.publisher import Chunk, Publisher
from services.registry import Registry
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import connect
from services.store.versions import FEEDING_LOCK, TimelineEntry, create_version, feed, promote
from tests.fresh import drop_database, empty_topics
from tests.servers import LocalServers, RunningServers

ROOT = Path(infra.__file__).parents[1]
DEFINITIONS = (ROOT / "projections" / "default.yaml", ROOT / "tests" / "vectors" / "definition.yaml")
"""The first is fed and promoted; with two versions the second is fed too."""
START = 1_736_121_600_000_000
"""2025-01-06T00:00:00Z: the first day of the made-up journeys."""
CHUNK_RECORDS = 1_000


def servers() -> RunningServers:
    """The stack named by `LEADLOG_TEST_STACK`, else one of this run's own; `close` ends that one only."""
    running = os.environ.get("LEADLOG_TEST_STACK")
    return RunningServers(Path(running)) if running else LocalServers()


def made_up(events: int, seed: int, share: str = "usual") -> Iterator[Record]:
    """Events as `leadlog generate --kinds usual` makes them, in the order of their arrival."""
    now = START + 20 * 365 * 86_400_000_000  # the journeys lie in the past, whatever today is
    for line in lines(Plan(seed, events, None, START, 365, kinds.shares(share))):
        yield parse_line(line.json, now=now, may_import=True)


async def fill(addresses: Addresses, records: Iterable[Record]) -> int:
    """Makes the topics anew with these records; returns how many there are."""
    await empty_topics(addresses.kafka_bootstrap)
    async with Registry(addresses.registry_url) as registry:
        await registry.deploy()
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


@asynccontextmanager
async def database(addresses: Addresses, name: str, versions: int) -> AsyncIterator[Addresses]:
    """The addresses with a fresh database that feeds so many versions; it is dropped in the end."""
    server = await asyncpg.connect(addresses.postgres_dsn)
    try:
        await drop_database(server, name)
        await server.execute(f"create database {name}")
        own = addresses._replace(postgres_dsn=f"{addresses.postgres_dsn.rpartition('/')[0]}/{name}")
        await _prepare(own.postgres_dsn, DEFINITIONS[:versions])
        yield own
        await drop_database(server, name)  # this also makes a checkpoint: every variant starts after one
    finally:
        await server.close()


async def _prepare(dsn: str, definitions: Sequence[Path]) -> None:
    await migrate(dsn, ROOT / "infra" / "migrations")
    connection = await connect(dsn)
    try:
        for file in definitions:
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", FEEDING_LOCK)
                entry = TimelineEntry(None, file.read_text())
                number = await create_version(connection, [entry])
                await feed(connection, number)
                if number == 1:
                    await promote(connection, number)
    finally:
        await connection.close()
