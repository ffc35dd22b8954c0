"""Keeps in Postgres how far the topics go, so that BI can say how fresh its rows are.

Promises: `ops.lag` is never older than a few seconds while a projector runs and Kafka answers. Leaves what
was read to the batches, and what the process itself knows of its lag to `health`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from services.broker import INPUT_PARTITIONS, Ends
from services.projector import metrics
from services.store.pool import PASSING, Connection
from services.store.versions import code_version

LOOK_SECONDS = 2.0
"""Pause between two looks: one small request to Kafka and one statement each."""

KEEP = """
insert into ops.lag (topic, partition, end_offset, measured_at, caught_up_at)
select known.topic, known.partition, known.end_offset, now(), case when behind.records <= 0 then now() end
from unnest($1::text[], $2::smallint[], $3::bigint[]) known (topic, partition, end_offset)
left join log.position using (topic, partition)
cross join lateral (select known.end_offset - coalesce(position.next_offset, 0) as records) behind
order by known.topic, known.partition
on conflict (topic, partition) do update set
  end_offset = excluded.end_offset,
  measured_at = excluded.measured_at,
  caught_up_at = coalesce(excluded.caught_up_at, lag.caught_up_at)
"""

FED = """
select schema_name, label, code_version = $1 as is_our_code, status = 'promoted' as is_promoted,
  (select count(*) from ops.parked where parked.version_no = version.version_no) as parked
from ops.version where status in ('fed', 'promoted')
"""

log = structlog.get_logger()


class Lag:
    """Looks at Kafka and writes, until cancelled."""

    def __init__(self, pool: asyncpg.Pool[Any], bootstrap: str) -> None:
        self._pool = pool
        self._ends = Ends(bootstrap)

    async def run(self) -> None:
        """Writes for ever; a server that is away is asked again."""
        while True:
            try:
                ends = await self._ends.ask(INPUT_PARTITIONS)
                rows = [(topic, partition, end) for (topic, partition), end in sorted(ends.items())]
                async with self._pool.acquire() as connection:
                    await connection.execute(KEEP, *map(list, zip(*rows, strict=True)))
                    await publish(connection)
            except (KafkaError, asyncpg.PostgresError, *PASSING) as error:
                log.warning("lag_unknown", error=repr(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Closes the connection to Kafka."""
        await self._ends.close()


async def publish(connection: Connection) -> None:
    """Sets the gauges that only Postgres knows; retired versions disappear."""
    metrics.OUTBOX_PENDING.set(await connection.fetchval("select count(*) from ops.outbox"))
    rows = await connection.fetch(FED, code_version())
    metrics.FED_VERSION.clear()
    metrics.PARKED_JOURNEYS.clear()
    for row in rows:
        metrics.PARKED_JOURNEYS.labels(row["schema_name"]).set(row["parked"])
        if row["is_our_code"]:
            metrics.FED_VERSION.labels(row["schema_name"], row["label"]).set(1)
    metrics.FEEDS_PROMOTED.set(any(row["is_our_code"] and row["is_promoted"] for row in rows))
