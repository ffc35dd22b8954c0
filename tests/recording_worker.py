"""A projector process whose handler only records: what came, in which order, with the offsets, in one
transaction.

Run as `python -m tests.recording_worker WORKER_ID` with the addresses in the environment. It shows what the
engine delivers, without the projector's own rules. `RECORDER_FAILS_AT` (an offset) makes the handler raise
once, marked by a row, and `RECORDER_SLEEP` holds every transaction open for so many seconds before its
commit. `RECORDER_READS_ONCE` ends the fetching of the Kafka client after the first batch.
"""

import asyncio
import gc
import os
import sys
from collections import defaultdict
from typing import Any

import asyncpg

from schemas.topics import Offsets, Partition
from services import settings
from services.projector import worker
from services.projector.delivery import OffsetGap, Record

TOPICS = frozenset(os.environ.get("RECORDER_TOPICS", "lead.events lead.identity lead.reference").split())

SCHEMA = """
create table if not exists recorded (
  seq bigserial, topic text, part integer, at bigint, value bytea, worker text, pid integer);
create table if not exists position (topic text, part integer, next bigint, primary key (topic, part));
create table if not exists failed (at bigint)
"""
LOCK = "select next from position where topic = $1 and part = $2 for update"
COLUMNS = ("topic", "part", "at", "value", "worker", "pid")
TROUBLE = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Recorder:
    """A handler that keeps every record it is given."""

    def __init__(self, name: str, dsn: str) -> None:
        self._name = name
        self._dsn = dsn
        self._connection: asyncpg.Connection[Any] | None = None

    async def start(self) -> None:
        """Makes the tables."""
        connection = await self._connected()
        await connection.execute("select pg_advisory_lock(1)")
        await connection.execute(SCHEMA)
        await connection.execute("select pg_advisory_unlock(1)")

    async def stop(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def watch(self) -> None:
        """Nothing runs in the background."""
        await asyncio.Event().wait()

    async def _connected(self) -> "asyncpg.Connection[Any]":
        while self._connection is None or self._connection.is_closed():
            try:
                self._connection = await asyncpg.connect(self._dsn)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
        return self._connection

    def away(self) -> dict[str, str]:
        """None but Postgres, for which `apply` waits."""
        return {}

    async def positions(self, partitions: set[Partition]) -> Offsets:
        """The stored next offsets."""
        connection = await self._connected()
        rows = await connection.fetch("select topic, part, next from position")
        return dict.fromkeys(partitions, 0) | {(row["topic"], row["part"]): row["next"] for row in rows}

    async def apply(self, batch: list[Record]) -> Offsets:
        """Records the batch, trying again while Postgres is away."""
        while True:
            connection = await self._connected()
            try:
                async with connection.transaction():
                    offsets = await self._record(connection, batch)
                if "RECORDER_READS_ONCE" in os.environ:
                    end_fetching()
                return offsets
            except TROUBLE:
                connection.terminate()
                await asyncio.sleep(0.1)

    async def _record(self, connection: "asyncpg.Connection[Any]", batch: list[Record]) -> Offsets:
        found: dict[Partition, list[Record]] = defaultdict(list)
        for record in batch:
            found[record.topic, record.partition].append(record)
        offsets: Offsets = {}
        fresh: list[Record] = []
        for partition in sorted(found):
            await connection.execute(
                "insert into position values ($1, $2, 0) on conflict do nothing", *partition
            )
            expected = await connection.fetchval(LOCK, *partition)
            for record in found[partition]:
                if record.offset > expected:
                    raise OffsetGap(partition, expected, record.offset)
                if record.offset == expected:
                    fresh.append(record)
                    expected += 1
            offsets[partition] = expected
        await self._write(connection, fresh, offsets)
        return offsets

    async def _write(
        self, connection: "asyncpg.Connection[Any]", fresh: list[Record], offsets: Offsets
    ) -> None:
        rows = [(r.topic, r.partition, r.offset, r.value, self._name, os.getpid()) for r in fresh]
        await connection.copy_records_to_table("recorded", records=rows, columns=COLUMNS)
        await self._maybe_fail(fresh)
        await asyncio.sleep(float(os.environ.get("RECORDER_SLEEP", "0")))
        for (topic, part), expected in offsets.items():
            await connection.execute(
                "update position set next = $3 where topic = $1 and part = $2", topic, part, expected
            )

    async def _maybe_fail(self, fresh: list[Record]) -> None:
        fails_at = int(os.environ.get("RECORDER_FAILS_AT", "-1"))
        if not any(record.offset == fails_at for record in fresh):
            return
        other = await asyncpg.connect(self._dsn)
        if not await other.fetchval("select count(*) from failed"):
            await other.execute("insert into failed values ($1)", fails_at)
            raise ValueError(f"the handler fails once, at offset {fails_at}")
        await other.close()


def end_fetching() -> None:
    """Ends the task that fetches, as aiokafka itself did more than once (its issues 983 and 1038)."""
    for task in gc.get_objects():
        if isinstance(task, asyncio.Task) and "_fetch_requests_routine" in repr(task.get_coro()):
            task.get_loop().call_soon_threadsafe(task.cancel)


if __name__ == "__main__":
    who = worker.identity(sys.argv[1] if len(sys.argv) > 1 else "")
    sys.exit(worker.run(Recorder(who.name, settings.addresses().postgres_dsn), TOPICS, who, port=0))
