"""Tells when everything published so far is in Postgres and nothing that this release feeds or BI reads is
stale.

Promises: it ends while more is published all the time; what becomes stale meanwhile is not waited for.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from schemas.topics import INPUT_TOPICS, Offsets
from services.broker import end_offsets
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.positions import read_positions
from services.store.versions import (
    BUILD_AGAIN,
    OTHER_RELEASE,
    code_version,
    count_outdated,
    count_stale,
    is_of_other_release,
)

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
    left = Left(await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS))
    deadline = time.monotonic() + seconds
    async with session(addresses.postgres_dsn) as connection:
        while True:
            behind = await left.look(connection)
            if behind.nothing or time.monotonic() > deadline:
                return behind
            if behind.stale and await is_of_other_release(connection):
                raise OtherRelease
            report(behind)
            await asyncio.sleep(POLL_SECONDS)


class Left:
    """What is still missing of what was missing when everything published had been stored."""

    def __init__(self, ends: Offsets) -> None:
        self._ends = ends
        self._revision: int | None = None
        self._stale: dict[str, set[str]] = {}
        """Schema to the journeys that every look found stale."""
        self._last_message: int | None = None

    async def look(self, connection: Connection) -> Behind:
        """What is missing at this moment."""
        if self._revision is None:
            behind = await look(connection, self._ends)
            if behind.records or behind.nothing:
                return behind
            self._revision = await connection.fetchval("select revision from log.reference_revision")
        stale = await self._still_stale(connection, self._revision)
        return Behind(0, stale, await self._still_unsent(connection, is_known=not stale))

    async def _still_stale(self, connection: Connection, revision: int) -> int:
        number = 0
        for schema, version_no in await _kept_up(connection):
            rows = await connection.fetch(f"select journey_id from {schema}.journey where is_stale")
            found = {row["journey_id"] for row in rows}
            self._stale[schema] = self._stale.get(schema, found) & found
            number += len(self._stale[schema])
            number += await count_outdated(connection, schema, version_no, revision)
        return number

    async def _still_unsent(self, connection: Connection, *, is_known: bool) -> int:
        """Of the messages that were there when it was first known which: when nothing was stale any more."""
        if is_known and self._last_message is None:
            self._last_message = await connection.fetchval("select max(outbox_id) from ops.outbox") or 0
        unsent = "select count(*) from ops.outbox where $1::bigint is null or outbox_id <= $1"
        return int(await connection.fetchval(unsent, self._last_message))


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
    return sum([await count_stale(connection, *each) for each in await _kept_up(connection)])


async def _kept_up(connection: Connection) -> list[tuple[str, int]]:
    """Schema and number of the versions that are waited for."""
    rows = await connection.fetch(
        "select schema_name, version_no from ops.version "
        "where status = 'promoted' or (status = 'fed' and code_version = $1)",
        code_version(),
    )
    return [(row["schema_name"], row["version_no"]) for row in rows]
