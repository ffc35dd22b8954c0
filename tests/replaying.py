"""Random logs on real topics, and the projector's tables made of them, for tests of replay.

Promises: what `Log.feed` gives to the projector's transaction is what lies on the topics, offset by offset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.ids import schema_text
from schemas.records import Record as Event
from schemas.straight import writer
from schemas.topics import EVENTS, IDENTITY
from schemas.wire import MAGIC, PREFIX
from services.projector.delivery import Record
from tests.histories import is_reference, random_log

NAMES = ("event_id", "subject_id", "other_subject_id", "target_event_id", "link_event_id")
"""Fields that name an event or a subject."""


LONG = "0" * 70 + "-"
"""Ids whose length takes two bytes in Avro."""


def many_logs(rng: Random, logs: int, size: int) -> list[Event]:
    """The events of several random logs as one: each has ids of its own, but for the reference facts."""
    found: list[Event] = []
    for number in range(logs):
        prefix = f"{number}-" if number else LONG
        found += [_prefixed(event, prefix) for event in random_log(rng, size, "any")]
    rng.shuffle(found)
    return found


def _prefixed(event: Event, prefix: str) -> Event:
    names = {name: prefix + getattr(event, name) for name in NAMES if hasattr(event, name)}
    if is_reference(event):
        names = {"event_id": names["event_id"]}
    return msgspec.structs.replace(event, **names)


async def publish(bootstrap: str, records: Sequence[Record]) -> None:
    """Puts records on their partitions of topics that are empty before; offsets come out as given."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sent = [
            await producer.send(each.topic, each.value, key=each.key, partition=each.partition)
            for each in records
        ]
        for record, future in zip(records, sent, strict=True):
            assert (await future).offset == record.offset
    finally:
        await producer.stop()


def encoded_before(record: Event, schema_id: int, text: str) -> bytes:
    """The record as a value written with an earlier schema, which lacks fields of today's."""
    value = bytearray(PREFIX.pack(MAGIC, schema_id))
    writer(json.loads(text))(record, value)
    return bytes(value)


def earlier_schema(record: str, field: str) -> str:
    """Today's schema of a record without one field."""
    schema = json.loads(schema_text(record))
    schema["fields"] = [each for each in schema["fields"] if each["name"] != field]
    return json.dumps(schema)


def spoiled(rng: Random, records: Sequence[Record]) -> list[Record]:
    """The records with unreadable and misplaced ones between them; offsets are counted anew."""
    found: list[Record] = []
    for record in records:
        while rng.random() < 0.05:
            found.append(rng.choice(SPOILS)(record))
        found.append(record)
    return renumbered(found)


def renumbered(records: Sequence[Record]) -> list[Record]:
    """Dense offsets in this order."""
    ends: dict[tuple[str, int], int] = {}
    found = []
    for record in records:
        place = (record.topic, record.partition)
        found.append(record._replace(offset=ends.get(place, 0)))
        ends[place] = ends.get(place, 0) + 1
    return found


def _value(record: Record) -> bytes:
    assert record.value is not None
    return record.value


SPOILS: tuple[Callable[[Record], Record], ...] = (
    lambda record: record._replace(value=None),
    lambda record: record._replace(value=b""),
    lambda record: record._replace(value=_value(record)[:-3]),
    lambda record: record._replace(value=_value(record)[:9]),
    lambda record: record._replace(value=_value(record) + b"more"),
    lambda record: record._replace(value=b"{" + _value(record)),
    lambda record: record._replace(value=PREFIX.pack(MAGIC, 2**31 - 1) + _value(record)[5:]),
    lambda record: record._replace(key=b"someone else"),
    lambda record: record._replace(key=None),
    lambda record: record._replace(topic=IDENTITY if record.topic == EVENTS else EVENTS),
)
"""What is made of a copy of a good record."""
