"""Puts events into a fresh database as the projector does, without a broker, and runs commands on it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from click.testing import CliRunner, Result

from infra import MIGRATIONS
from schemas import records as r
from schemas.contract import parse_line
from schemas.records import MAX_INSTANT, TOPIC_OF, Envelope
from schemas.wire import encode
from services.cli import main
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.projector.batch import Batch
from services.projector.delivery import Record
from services.store.feeding import Fed
from services.store.migrate import migrate
from services.store.pool import Connection, connect
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, promote
from tests.live import offline

DEFINITION = resources.files("projections").joinpath("default.yaml").read_text()
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
FIRST_MONDAY = 4 * DAY
"""1970 began on a Thursday."""
MONDAY_TEN = 1_774_260_000_000_000
"""2026-03-23T10:00:00Z, inside the default definition's opening hours."""
HUMAN = r.Actor("human", "sam")
Leadlog = Callable[..., Result]
"""Runs a command with arguments."""


async def prepare_database(dsn: str, connection: Connection, definition: str) -> int:
    """Migrates, and promotes a first version of this definition; returns its number."""
    await migrate(dsn, MIGRATIONS)
    async with connection.transaction():
        number = await create_version(connection, [TimelineEntry(None, definition)])
        await promote(connection, number)
    return number


async def feed(connection: Connection, events: Iterable[Envelope], appended_at: int = 0) -> None:
    """Takes events as one batch, in this order, from partition 0 of their topics.

    `appended_at`: when the broker got them, in microseconds.
    """
    decoding = offline()
    rows = await connection.fetch("select topic, next_offset from log.position where partition = 0")
    offsets = defaultdict(int, {row["topic"]: row["next_offset"] for row in rows})
    records = []
    for event in events:
        topic = TOPIC_OF[type(event).__name__]
        records.append(
            Record(
                topic, 0, offsets[topic], appended_at // 1000, event.subject_id.encode(), encode(event), ()
            )
        )
        offsets[topic] += 1
    decoded = await decoding.batch(records)
    assert not decoded.rejects
    async with connection.transaction():
        await Batch(connection, Fed(), decoding).apply(records, decoded, set())


def generated(seed: int, journeys: int, days: int) -> Iterator[Any]:
    """Journeys of every kind but refused ones, of so many days up to now, as far as they are recorded by now.

    They begin on a Monday, whenever the test runs: by another weekday some kinds could be missing.
    """
    now = time.time_ns() // 1_000
    start = now - now % WEEK + FIRST_MONDAY - days * DAY
    for line in lines(Plan(seed, None, journeys, start, days, kinds.shares("every,refused=0"))):
        event = parse_line(line.json, now=MAX_INSTANT, may_import=True)
        if event.recorded_at <= now:
            yield event


def commands_on(dsn: str) -> Leadlog:
    """Runs commands on a database; there is no broker and no registry."""
    nowhere = "127.0.0.1:9"
    servers = {
        "LEADLOG_POSTGRES_DSN": dsn,
        "LEADLOG_KAFKA_BOOTSTRAP": nowhere,
        "LEADLOG_REGISTRY_URL": f"http://{nowhere}",
    }
    return lambda *arguments: CliRunner().invoke(main, arguments, env=servers)


async def given(dsn: str, events: Sequence[r.Record], then: str = "select 1") -> None:
    """Lets the projector take the events, making the first version if there is none; then runs SQL."""
    connection = await connect(dsn)
    if not await connection.fetchval("select to_regclass('ops.version') is not null"):
        await prepare_database(dsn, connection, DEFINITION)
    if events:
        await feed(connection, events)
    await connection.execute(then)
    await connection.close()


def at(hours: float, event_id: str, subject_id: str = "crm:1", **more: Any) -> dict[str, Any]:
    """The envelope of an event so many hours after the start, recorded at once."""
    instant = MONDAY_TEN + round(hours * HOUR)
    return {
        "event_id": event_id,
        "subject_id": subject_id,
        "occurred_at": instant,
        "recorded_at": instant,
        "source": "test",
        **more,
    }


def demo_request(hours: float, event_id: str, **more: Any) -> r.TouchRecorded:
    """A form that makes an MQL."""
    return r.TouchRecorded(
        **at(hours, event_id, **more),
        touch_type="form_submitted",
        direction="inbound",
        channel="email",
        offer_id="demo_request",
    )
