"""Sends what transactions left in `ops.outbox`, at least once, in order, with a stable id as `ce_id`."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.producing import Outgoing, submit
from services.projector import metrics
from services.store.pool import PASSING

BATCH = 500
"""Messages sent before the next look into the outbox: bounds memory, since a rejected record may be 1 MB."""
IDLE_SECONDS = 0.5
"""Pause between looks into an empty outbox."""

log = structlog.get_logger()

TAKE = """
select outbox_id, topic, message_id, key, value, headers from ops.outbox
order by outbox_id limit $1 for update skip locked
"""


class Outbox:
    """Moves messages from Postgres to Kafka until cancelled."""

    def __init__(self, pool: asyncpg.Pool[Any], producer: AIOKafkaProducer) -> None:
        self._pool = pool
        self._producer = producer

    async def run(self) -> None:
        """Sends for ever; a server that is away is tried again."""
        while True:
            try:
                sent = await self.send_some()
            except (KafkaError, asyncpg.PostgresError, *PASSING) as error:
                log.warning("outbox_waits", error=repr(error))
                sent = 0
            if sent < BATCH:
                await asyncio.sleep(IDLE_SECONDS)

    async def send_some(self) -> int:
        """Sends up to BATCH messages; they leave the outbox only after the broker has them."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(TAKE, BATCH)
            if not rows:
                return 0
            await asyncio.gather(*await submit(self._producer, map(outgoing, rows)))
            await connection.execute(
                "delete from ops.outbox where outbox_id = any($1)", [row["outbox_id"] for row in rows]
            )
        metrics.OUTBOX_SENT.inc(len(rows))
        return len(rows)


def outgoing(row: asyncpg.Record) -> Outgoing:
    """The message of a row."""
    headers = {"ce_id": row["message_id"], **msgspec.json.decode(row["headers"], type=dict[str, str])}
    told = [(name, value.encode()) for name, value in headers.items()]
    return Outgoing(row["topic"], row["key"], row["value"], told)
