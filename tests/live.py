"""The projector's transaction on a real Postgres, fed by hand: batches, redeliveries and restarts at the
test's will.

Promises: `tables` reads what the versions hold as the rows that `tests.comparison` compares. Leaves Kafka and
Faust to the tests of the engine.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from zlib import crc32

from projections import journey
from schemas.records import TOPIC_OF, Envelope
from schemas.topics import Offsets
from schemas.wire import encode
from services.projector.batch import Batch
from services.projector.decoding import Decoding
from services.projector.delivery import Record
from services.projector.log import Grown
from services.projector.refold import Refold
from services.registry import Registry
from services.store.feeding import Fed
from services.store.pool import Connection, create_pool
from services.store.timeline import TimelineEntry
from services.store.versions import MARK_STALE, create_version, promote
from tests.comparison import Tables, named
from tests.histories import Timeline

PARTITIONS = 3
LOG_TABLES = (
    "log.event, log.event_copy, log.naming, log.link, log.subject, log.reference, log.position, log.reject, "
    "ops.outbox, ops.changed_clock, ops.fired, ops.parked, ops.repair, ops.activation, ops.version"
)


def offline() -> Decoding:
    """Reads what was written with the released schemas; there is no registry to ask."""
    return Decoding(Registry("http://127.0.0.1:9"))


async def clear(connection: Connection) -> None:
    """Leaves an empty log without versions."""
    for row in await connection.fetch("select schema_name from ops.version"):
        await connection.execute(f"drop schema {row['schema_name']} cascade")
    await connection.execute(f"truncate {LOG_TABLES} cascade")


async def let_feed(connection: Connection, version_no: int) -> None:
    """Lets the projector feed a version; what the log has already is left to the refold loop."""
    schema = await connection.fetchval(
        "update ops.version set status = 'fed' where version_no = $1 returning schema_name", version_no
    )
    journeys = await connection.fetch("select subject_id from log.subject where subject_id = journey_id")
    await connection.execute(MARK_STALE.format(schema=schema), [row["subject_id"] for row in journeys])


async def add_versions(connection: Connection, timelines: Iterable[Timeline]) -> list[str]:
    """Feeds a version for each timeline, promotes the first; returns their schemas."""
    schemas: list[str] = []
    for timeline in timelines:
        async with connection.transaction():
            number = await create_version(connection, [TimelineEntry(*entry) for entry in timeline])
            await let_feed(connection, number)
            if not schemas:
                await promote(connection, number)
        schemas.append(f"v{number:04d}")
    return schemas


def on_topics(events: Iterable[Envelope]) -> list[Record]:
    """The events as records of their topics, in order of arrival, some partitions each."""
    offsets: Offsets = defaultdict(int)
    records = []
    for event in events:
        topic, key = TOPIC_OF[type(event).__name__], event.subject_id.encode()
        partition = 0 if topic == "lead.reference" else crc32(key) % PARTITIONS
        offset = offsets[topic, partition]
        records.append(Record(topic, partition, offset, 0, key, encode(event), ()))
        offsets[topic, partition] = offset + 1
    return records


async def take(
    connection: Connection, batch: Sequence[Record], fed: Fed, decoding: Decoding | None = None
) -> None:
    """One batch in one transaction."""
    decoding = decoding or offline()
    decoded = await decoding.batch(batch)
    seeds: set[str] = set()
    while True:
        try:
            async with connection.transaction():
                await Batch(connection, fed, decoding).apply(batch, decoded, seeds)
            return
        except Grown as grown:
            seeds = grown.subjects


def cut(rng: Random, records: list[Record]) -> list[list[Record]]:
    """Batches of random sizes."""
    batches = []
    while records:
        size = rng.choice([1, 1, 2, 3, 5, 8, 50])
        batches.append(records[:size])
        records = records[size:]
    return batches


async def tables(connection: Connection, schema: str) -> Tables:
    """All rows of a version."""
    rows = {
        table.name: [
            tuple(row)
            for row in await connection.fetch(f"select {', '.join(table.columns)} from {schema}.{table.name}")
        ]
        for table in journey.TABLES
    }
    return named(rows)


async def refolded(dsn: str, fed: Fed) -> None:
    """Lets the refold loop bring up whatever is stale."""
    pool = await create_pool(dsn, size=1)
    refold = Refold(pool, fed, offline())
    while await refold.round():
        pass
    await pool.close()
