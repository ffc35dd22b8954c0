"""Whether the tables of `log` hold exactly what the topics hold.

Promises: every record up to the stored positions is found by id and content hash or as a reject, byte for
byte; every row of the log is found on the topics. Bodies of erased subjects are not compared: they were
overwritten. Leaves what events come to to `verify`.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from schemas.topics import Offsets
from services.projector.decoding import Decoded, Decoding
from services.registry import Registry
from services.replay.job import Progress, Report
from services.replay.topics import read, units_of
from services.settings import Addresses
from services.store.pool import Connection, session
from services.store.positions import read_positions

SEEN = """
create temporary table seen (
  topic        text not null,
  partition    smallint not null,
  "offset"     bigint not null,
  event_id     text collate "C",
  content_hash bytea,
  value_hash   bytea not null
)
"""
"""What was read of the topics; event_id null = a reject."""

KEPT = """
select case
    when record_name in ('SubjectsLinked', 'SubjectsUnlinked', 'SubjectErased') then 'lead.identity'
    when record_name in ('CampaignScheduled', 'DefinitionProposed', 'DefinitionApproved',
                         'DefinitionActivated', 'CalendarChanged') then 'lead.reference'
    else 'lead.events'
  end as topic, partition, "offset", event_id, content_hash,
  case when erased_at is null then sha256(body) end as value_hash
from (
  select record_name, partition, "offset", event_id, content_hash, body, subject_id from log.event
  where content_hash is not null
  union all
  select record_name, partition, "offset", event_id, content_hash, body, subject_id from log.event_copy
) as stored
left join log.subject using (subject_id)
"""

COMPARE = f"""
with until as (
  select * from unnest($1::text[], $2::smallint[], $3::bigint[]) as read (topic, partition, end_offset)
),
kept as ({KEPT}),
place as (
  select topic, partition, count(*) as records, count(event_id) as events
  from pg_temp.seen group by topic, partition
),
stored as (
  select kept.topic, kept.partition, count(*) as kept,
    bit_xor(('x' || encode(substr(kept.content_hash, 1, 8), 'hex'))::bit(64)::bigint) as hash,
    bit_xor(('x' || encode(substr(seen.content_hash, 1, 8), 'hex'))::bit(64)::bigint) as seen_hash,
    count(*) filter (
      where seen.event_id is distinct from kept.event_id or seen.content_hash <> kept.content_hash
    ) as foreign_rows,
    count(*) filter (where seen.value_hash <> kept.value_hash) as altered
  from kept
  join until on until.topic = kept.topic and until.partition = kept.partition and kept."offset" < end_offset
  left join pg_temp.seen
    on seen.topic = kept.topic and seen.partition = kept.partition and seen."offset" = kept."offset"
  group by 1, 2
),
missing as (
  select seen.topic, seen.partition, count(*) as missing
  from pg_temp.seen left join kept using (event_id, content_hash)
  where seen.event_id is not null and kept.event_id is null group by 1, 2
),
rejected as (
  select coalesce(seen.topic, reject.topic) as topic, coalesce(seen.partition, reject.partition) as partition,
    count(*) filter (where reject.topic is null) as rejects_missing,
    count(*) filter (where seen.topic is null) as rejects_foreign,
    count(*) filter (
      where seen.value_hash <> sha256(coalesce(reject.value, '')) and not is_forgotten
    ) as rejects_altered
  from (select * from pg_temp.seen where event_id is null) as seen
  full join (
    select reject.*, reject.value is null and erased_at is not null as is_forgotten
    from log.reject join until using (topic, partition)
    left join log.subject using (subject_id)
    where "offset" < end_offset
  ) as reject using (topic, partition, "offset")
  group by 1, 2
)
select topic, partition, coalesce(records, 0) as records, coalesce(kept, 0) as kept,
  coalesce(records - events, 0) as rejects, to_hex(coalesce(hash, 0)) as hash,
  to_hex(coalesce(seen_hash, 0)) as topic_hash, coalesce(missing, 0) as missing,
  coalesce(foreign_rows, 0) as foreign_rows, coalesce(altered, 0) + coalesce(rejects_altered, 0) as altered,
  coalesce(rejects_missing, 0) as rejects_missing, coalesce(rejects_foreign, 0) as rejects_foreign
from place
full join stored using (topic, partition)
full join missing using (topic, partition)
full join rejected using (topic, partition)
order by topic, partition
"""

UNIT_RECORDS = 50_000
"""Records between two lines of progress."""


class Checked(NamedTuple):
    """One partition: records on the topic, and what the log has of it."""

    topic: str
    partition: int
    records: int
    kept: int
    """Distinct contents that the log has from here; what is not kept is a copy or a reject."""
    rejects: int
    hash: str
    """XOR of the content hashes in the log."""
    topic_hash: str
    """The same of what lies at those places of the topic."""
    missing: int
    """Records whose content the log lacks."""
    foreign_rows: int
    """Rows of the log that are not at their place on the topic."""
    altered: int
    """Rows whose bytes are others."""
    rejects_missing: int
    rejects_foreign: int

    @property
    def is_equal(self) -> bool:
        """The log holds exactly this partition."""
        wrong = (self.missing, self.foreign_rows, self.altered, self.rejects_missing, self.rejects_foreign)
        return self.hash == self.topic_hash and not any(wrong)


async def log_verify(addresses: Addresses, report: Report) -> list[Checked]:
    """Reads the topics up to the stored positions and compares; the live path may go on meanwhile."""
    async with session(addresses.postgres_dsn) as connection, Registry(addresses.registry_url) as registry:
        await connection.execute(SEEN)
        ends = await read_positions(connection)
        await _read(connection, addresses, Decoding(registry), ends, report)
        await connection.execute("analyze pg_temp.seen")
        return await _compare(connection, ends)


async def _read(
    connection: Connection, addresses: Addresses, decoding: Decoding, ends: Offsets, report: Report
) -> None:
    units = units_of(ends, UNIT_RECORDS)
    for number, unit in enumerate(units, 1):
        async for topic, portion in read(addresses.kafka_bootstrap, unit):
            decoded = await decoding.batch(portion)
            rows = _rows(topic, decoded)
            await connection.copy_records_to_table("seen", schema_name="pg_temp", records=rows)
        report(Progress("read", number, len(units), 0, 0, None))


def _rows(topic: str, decoded: Decoded) -> Iterable[tuple[Any, ...]]:
    for each in decoded.arrivals:
        value_hash = sha256(each.body).digest()
        yield topic, each.partition, each.offset, each.record.event_id, each.content_hash, value_hash
    for record, *_ in decoded.rejects:
        value_hash = sha256(record.value or b"").digest()
        yield topic, record.partition, record.offset, None, None, value_hash


async def _compare(connection: Connection, ends: Offsets) -> list[Checked]:
    """Rows that the live path has stored since do not count."""
    async with connection.transaction(isolation="repeatable_read"):
        until = [(topic, partition, end) for (topic, partition), end in ends.items()]
        columns = [list(column) for column in zip(*until, strict=True)] or [[], [], []]
        rows = await connection.fetch(COMPARE, *columns, timeout=None)
    return [Checked(*row) for row in rows]
