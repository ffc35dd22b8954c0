"""Sends what transactions left in `ops.outbox`, at least once, in order, with a stable id as `ce_id`.

Promises: of several workers one sends, another takes over when that one is gone. Rows are not locked while
Kafka is waited for: what is taken out meanwhile may be sent all the same, and what is left again comes after
it. A producer that failed is replaced.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer

from services.broker import AWAY, start_producer, stop_producer
from services.producing import Outgoing, submit
from services.projector import metrics
from services.store.locks import OUTBOX
from services.store.pool import PASSING, fetch_planned

BATCH = 500
"""Messages sent before the next look into the outbox: bounds memory, since a rejected record may be 1 MB."""
IDLE_SECONDS = 0.5
"""Pause between looks into an empty outbox."""

log = structlog.get_logger()

LEAD = "select pg_try_advisory_xact_lock($1)"
TAKE = "select outbox_id, topic, message_id, key, value, headers from ops.outbox order by outbox_id limit $1"
# What a transaction takes out at this moment is left to it: each would wait for the other.
SENT = """
delete from ops.outbox where ctid = any(array(
  select ctid from ops.outbox where outbox_id = any($1) for update skip locked
))
"""


class Outbox:
    """Moves messages from Postgres to Kafka until cancelled."""

    def __init__(self, pool: asyncpg.Pool[Any], bootstrap: str) -> None:
        self._pool = pool
        self._bootstrap = bootstrap

    async def run(self) -> None:
        """Sends for ever; a server that is away is tried again."""
        while True:
            try:
                await self._send()
            except (*AWAY, asyncpg.PostgresError, *PASSING) as error:
                log.warning("outbox_waits", error=repr(error))
            await asyncio.sleep(IDLE_SECONDS)

    async def _send(self) -> None:
        """Sends until something fails: the producer may then have lost count of its sequence numbers."""
        producer = await start_producer(self._bootstrap)
        try:
            while True:
                if await self.send_some(producer) < BATCH:
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await stop_producer(producer)

    async def send_some(self, producer: AIOKafkaProducer) -> int:
        """Sends up to BATCH messages, unless another worker does; they leave the outbox only after the broker
        has them. Returns how many."""
        async with self._pool.acquire() as connection, connection.transaction():
            is_mine = await connection.fetchval(LEAD, OUTBOX)
            rows = await fetch_planned(connection, TAKE, BATCH) if is_mine else []
            if not rows:
                return 0
            # All of them, also when one fails: the next sender is not to be overtaken by what is under way.
            told = await asyncio.gather(*await submit(producer, map(outgoing, rows)), return_exceptions=True)
            for error in told:
                if isinstance(error, BaseException):
                    raise error
            await fetch_planned(connection, SENT, [row["outbox_id"] for row in rows])
        metrics.OUTBOX_SENT.inc(len(rows))
        return len(rows)


def outgoing(row: asyncpg.Record) -> Outgoing:
    """The message of a row."""
    headers = {"ce_id": row["message_id"], **msgspec.json.decode(row["headers"], type=dict[str, str])}
    told = [(name, value.encode()) for name, value in headers.items()]
    return Outgoing(row["topic"], row["key"], row["value"], told)
