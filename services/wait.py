"""Tells when everything published so far is in Postgres and nothing that this release feeds or BI reads is
stale."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from schemas.topics import INPUT_TOPICS, Offsets
from services.broker import end_offsets
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.positions import read_positions
from services.store.versions import BUILD_AGAIN, OTHER_RELEASE, code_version, count_stale, is_of_other_release

POLL_SECONDS = 0.2


class OtherRelease(RuntimeError):
    """This release does not feed the version that BI reads: waiting for it would not end."""

    def __init__(self) -> None:
        super().__init__(f"{OTHER_RELEASE}: {BUILD_AGAIN}")


class Behind(NamedTuple):
    """What is missing until Postgres says what the topics say."""

    records: int
    """Records on the topics that are not in Postgres."""
    stale: int
    """Journeys whose rows are behind the log: of the version that BI reads and those of this code."""
    unsent: int
    """Messages in the outbox."""

    @property
    def nothing(self) -> bool:
        """Whether all is done."""
        return not any(self)


async def wait(addresses: Addresses, seconds: float, report: Callable[[Behind], None]) -> Behind:
    """Waits until what is on the topics now is in Postgres; gives up after `seconds`. Returns what is
    missing. Raises OtherRelease."""
    ends = await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)
    deadline = time.monotonic() + seconds
    async with session(addresses.postgres_dsn) as connection:
        while True:
            behind = await look(connection, ends)
            if behind.nothing or time.monotonic() > deadline:
                return behind
            if behind.stale and await is_of_other_release(connection):
                raise OtherRelease
            report(behind)
            await asyncio.sleep(POLL_SECONDS)


async def beyond(addresses: Addresses) -> list[str]:
    """One line for each partition that ends before what is stored of it: it was made anew."""
    async with session(addresses.postgres_dsn) as connection:
        stored = await read_positions(connection)  # before the ends, which only grow
    ends = await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)
    return [
        f"{topic}-{number} ends at {end}, but its records up to {stored[topic, number]} were stored"
        for (topic, number), end in sorted(ends.items())
        if end < stored.get((topic, number), 0)
    ]


async def look(connection: Connection, ends: Offsets) -> Behind:
    """What is missing at this moment until the given end offsets are reached and nothing is stale."""
    stored = await read_positions(connection)
    records = sum(max(0, end - stored.get(partition, 0)) for partition, end in ends.items())
    unsent = await connection.fetchval("select count(*) from ops.outbox")
    return Behind(records, await _stale(connection), unsent)


async def _stale(connection: Connection) -> int:
    rows = await connection.fetch(
        "select schema_name, version_no from ops.version "
        "where status = 'promoted' or (status = 'fed' and code_version = $1)",
        code_version(),
    )
    return sum([await count_stale(connection, *row) for row in rows])
