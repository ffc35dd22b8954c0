"""How far the topics reach, kept beside what has been read, so that SQL can say how fresh the data is."""

from collections.abc import Mapping

from services.store.pool import Connection

RECORD = """
insert into ops.lag as lag (topic, partition, end_offset, measured_at, caught_up_at)
select seen.topic, seen.partition, seen.end_offset, now(),
  case when coalesce(position.next_offset, 0) >= seen.end_offset then now() end
from unnest($1::text[], $2::smallint[], $3::bigint[]) as seen (topic, partition, end_offset)
left join log.position using (topic, partition)
order by seen.topic, seen.partition
on conflict (topic, partition) do update set
  end_offset = excluded.end_offset,
  measured_at = excluded.measured_at,
  caught_up_at = coalesce(excluded.caught_up_at, lag.caught_up_at)
"""


async def record_lag(connection: Connection, ends: Mapping[tuple[str, int], int]) -> None:
    """Stores the end offsets of (topic, partition) as seen just now, of all partitions that the caller reads.

    `bi.data_freshness` shows what follows from them; it takes them as unknown after 60 seconds.
    """
    topics, partitions = [topic for topic, _ in ends], [partition for _, partition in ends]
    await connection.execute(RECORD, topics, partitions, list(ends.values()))
