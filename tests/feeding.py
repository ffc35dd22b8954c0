"""Puts events into a fresh database as the projector does, without a broker in between."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import infra
from schemas.records import TOPIC_OF, Envelope
from schemas.wire import encode
from services.projector.batch import Batch
from services.projector.decoding import Decoding
from services.projector.delivery import Record
from services.registry import Registry
from services.store.migrate import migrate
from services.store.pool import Connection
from services.store.versions import Fed, TimelineEntry, create_version, promote

MIGRATIONS = Path(infra.__file__).parent / "migrations"


def offline() -> Decoding:
    """Reads what was written with the released schemas; there is no registry to ask."""
    return Decoding(Registry("http://127.0.0.1:9"))


async def prepare_database(dsn: str, connection: Connection, definition: str) -> int:
    """Migrates, and promotes a first version of this definition; returns its number."""
    await migrate(dsn, MIGRATIONS)
    async with connection.transaction():
        number = await create_version(connection, [TimelineEntry(None, definition)])
        await promote(connection, number)
    return number


async def feed(connection: Connection, events: Iterable[Envelope]) -> None:
    """Takes events as one batch, in this order, from partition 0 of their topics."""
    decoding = offline()
    rows = await connection.fetch("select topic, next_offset from log.position where partition = 0")
    offsets = defaultdict(int, {row["topic"]: row["next_offset"] for row in rows})
    records = []
    for event in events:
        topic = TOPIC_OF[type(event).__name__]
        records.append(Record(topic, 0, offsets[topic], 0, event.subject_id.encode(), encode(event), ()))
        offsets[topic] += 1
    decoded = await decoding.batch(records)
    assert not decoded.rejects
    async with connection.transaction():
        await Batch(connection, Fed(), decoding).apply(records, decoded, set())
