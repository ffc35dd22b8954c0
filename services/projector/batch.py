"""One batch of Kafka records, taken in one transaction.

Promises: the log, the rows of every fed version, the rejects and the next offsets move together or not at
all, so a crash, a second worker or a redelivery changes nothing. Locks are taken in the order that
`services.projector.log` states.
"""

from collections.abc import Mapping, Sequence

import msgspec

from projections import fault
from projections.agreement.standing import Schedule, schedules
from schemas.records import CalendarChanged, Micros, ReferenceFact
from schemas.topics import MAX_MESSAGE_BYTES, REFERENCE, REJECTED, Offsets, Partition
from services.projector import metrics
from services.projector.decoding import Decoded, Decoding, Reject
from services.projector.delivery import OffsetGap, Record
from services.projector.fold import BatchFold, plan
from services.projector.log import Arrival, Stored, lock_journeys, lock_rejects, store
from services.projector.redaction import FORGOTTEN, erased_subjects, forget_rejects, personal_names, redact
from services.rejections import Place
from services.store.definition_facts import definition_facts
from services.store.feeding import Fed
from services.store.locks import share_feeding
from services.store.outbox import Message, leave
from services.store.pool import Connection
from services.store.timeline import TimelineEntry
from services.store.versions import change_timelines, lay_out, leave_behind

LOCK_POSITIONS = """
select topic, partition, next_offset from log.position
where (topic, partition) in (select * from unnest($1::text[], $2::smallint[]))
order by topic, partition for update
"""

INSERT_POSITIONS = """
insert into log.position (topic, partition, next_offset)
select *, 0 from unnest($1::text[], $2::smallint[])
on conflict do nothing
"""

MOVE_POSITIONS = """
update log.position set next_offset = moved.next_offset
from unnest($1::text[], $2::smallint[], $3::bigint[]) moved (topic, partition, next_offset)
where position.topic = moved.topic and position.partition = moved.partition
"""

INSERT_REJECTS = """
insert into log.reject (topic, partition, "offset", reason, message, source, event_id, subject_id, key, value)
select $1, $2, $3, $4, case when is_erased then $11 else $5 end, $6, $7, $8,
  case when not is_erased then $9::bytea end, case when not is_erased then $10::bytea end
from (
  select exists (select from log.subject where subject_id = $8 and erased_at is not null) as is_erased
) as subject
"""

DELETE_REFERENCE = "delete from log.reference where event_id = any($1) returning record_name"

INSERT_REFERENCE = """
insert into log.reference (event_id, record_name, subject_id, occurred_at, recorded_at, fact)
values ($1, $2, $3, $4, $5, $6)
"""


MESSAGE_CHARACTERS = 1_000
"""Of what is wrong with a reject, as far as it is told on the topic."""
MOST_BYTES = int(MAX_MESSAGE_BYTES) - 8_192
"""Of key and value of a message about a reject: message and place, and what Kafka adds, need room too."""


class Batch:
    """A batch inside its transaction."""

    def __init__(self, connection: Connection, fed: Fed, decoding: Decoding) -> None:
        self._connection = connection
        self._fed = fed
        self._decoding = decoding

    async def apply(self, records: Sequence[Record], decoded: Decoded, seeds: set[str]) -> Offsets:
        """Takes what is new of the batch; returns the next offsets.

        `seeds` are subjects to lock besides those of the batch. Raises OffsetGap, and Grown to be started
        again.
        """
        await share_feeding(self._connection)
        stored = await self._lock_positions({(each.topic, each.partition) for each in records})
        reached = advance(stored, records)
        arrivals = [each for each in decoded.arrivals if each.offset >= stored[each.topic, each.partition]]
        rejects = [
            each
            for each in decoded.rejects
            if each.record.offset >= stored[each.record.topic, each.record.partition]
        ]
        erased = await self._take(arrivals, seeds)
        await self._refuse(rejects, erased)
        moved = [(topic, partition, offset) for (topic, partition), offset in sorted(reached.items())]
        await self._connection.execute(MOVE_POSITIONS, *map(list, zip(*moved, strict=True)))
        return reached

    async def _lock_positions(self, partitions: set[Partition]) -> Offsets:
        places = list(map(list, zip(*sorted(partitions), strict=True)))
        rows = await self._connection.fetch(LOCK_POSITIONS, *places)
        if len(rows) < len(partitions):
            await self._connection.execute(INSERT_POSITIONS, *places)
            rows = await self._connection.fetch(LOCK_POSITIONS, *places)
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def _take(self, arrivals: list[Arrival], seeds: set[str]) -> set[str]:
        """Puts events into the log and folds what they touch; returns the subjects that they erase."""
        if not arrivals:
            return set()
        facts = [each for each in arrivals if each.topic == REFERENCE]
        lock = "update" if facts else "share"
        await self._connection.execute(f"select revision from log.reference_revision for {lock}")
        stored = await store(self._connection, arrivals)
        # Without facts the revision is locked for share only: two such batches at once, and one starts again.
        is_learned = await self._learn(stored) if facts or stored.unlearned else False
        journeys = await lock_journeys(self._connection, stored, seeds)
        if journeys.erased:
            await redact(self._connection, journeys.erased, self._decoding)
        work = plan(stored, journeys)
        for version in await self._fed.load(self._connection):
            if is_learned:
                await lay_out(self._connection, version.schema, version.rules)
            await BatchFold(self._connection, version, work, self._decoding).run()
        for schema in self._fed.others:
            await leave_behind(self._connection, schema, journeys.members, journeys.gone)
        return stored.erased

    async def _learn(self, stored: Stored) -> bool:
        """Keeps the reference facts that count now; returns whether folds depend on one of them: then the
        revision counts up.

        What a definition newly calls personal is overwritten for those erased before: their subjects are
        touched. A definition agreed on for a date joins the timelines.
        """
        known, agreed = await personal_names(self._connection), await self._agreed()
        is_remeasured = await self._remember(stored)
        if not await personal_names(self._connection) <= known:
            stored.touched |= await erased_subjects(self._connection)
        is_extended = await self._extend(agreed)
        if is_remeasured or is_extended:
            await self._connection.execute("update log.reference_revision set revision = revision + 1")
        return is_remeasured or is_extended

    async def _agreed(self) -> dict[Micros, Schedule]:
        return schedules(await definition_facts(self._connection))

    async def _extend(self, known: Mapping[Micros, Schedule]) -> bool:
        """Lets what is agreed on for dates count from them on, and no longer what was before; returns whether
        that differs."""
        agreed = await self._agreed()
        gone = [TimelineEntry(date, each.body) for date, each in known.items() if agreed.get(date) != each]
        fresh = [TimelineEntry(date, each.body) for date, each in agreed.items() if known.get(date) != each]
        if gone or fresh:
            await change_timelines(self._connection, gone, fresh)
        return bool(gone or fresh)

    async def _remember(self, stored: Stored) -> bool:
        """Keeps the reference facts that count, and forgets those that no longer do; returns whether open
        hours depend on one."""
        gone = await self._connection.fetch(
            DELETE_REFERENCE, [each.record.event_id for each in stored.counting]
        )
        facts = [
            each.record
            for each in stored.counting
            if isinstance(each.record, ReferenceFact) and fault.of_itself(each.record) is None
        ]
        await self._connection.executemany(
            INSERT_REFERENCE,
            [
                (
                    each.event_id,
                    type(each).__name__,
                    each.subject_id,
                    each.occurred_at,
                    each.recorded_at,
                    msgspec.json.encode(each).decode(),
                )
                for each in facts
            ],
        )
        names = {type(each).__name__ for each in facts} | {row["record_name"] for row in gone}
        return CalendarChanged.__name__ in names

    async def _refuse(self, rejects: list[Reject], erased: set[str]) -> None:
        """Keeps what could not be taken, byte for byte, and leaves it to the outbox to tell; forgets what was
        refused of those now erased."""
        if not rejects and not erased:
            return
        await lock_rejects(self._connection)
        await forget_rejects(self._connection, erased)
        await self._connection.executemany(INSERT_REJECTS, [(*row(each), FORGOTTEN) for each in rejects])
        await leave(self._connection, [rejection(each) for each in rejects])
        for each in rejects:
            metrics.REJECTS.labels(each.reason).inc()


def place(record: Record) -> Place:
    """Where a record lies."""
    return Place(record.topic, record.partition, record.offset)


def row(reject: Reject) -> tuple[str | int | bytes | None, ...]:
    """The row of a reject in `log.reject`."""
    record = reject.record
    return (*place(record), reject.reason, reject.message, *reject.origin, record.key, record.value)


def rejection(reject: Reject) -> Message:
    """The message about a reject: the record as it was, the reason in headers.

    What would be too large beside them is left out, or the broker would never take it: `log.reject` has it.
    """
    record = reject.record
    headers = {
        "reason": reject.reason,
        "message": reject.message[:MESSAGE_CHARACTERS],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    key, value = record.key or b"", record.value or b""
    if len(key) + len(value) <= MOST_BYTES:
        return Message(REJECTED, str(place(record)), record.key, record.value, headers)
    headers["left_out"] = f"{len(key) + len(value)} bytes"
    return Message(REJECTED, str(place(record)), None, None, headers)


def advance(stored: Offsets, records: Sequence[Record]) -> Offsets:
    """The next offsets after the batch. Raises OffsetGap when records are missing before or between."""
    reached = dict(stored)
    for record in records:
        partition = (record.topic, record.partition)
        if record.offset > reached[partition]:
            raise OffsetGap(partition, reached[partition], record.offset)
        if record.offset == reached[partition]:
            reached[partition] += 1
    return reached
