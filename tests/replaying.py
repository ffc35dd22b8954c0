"""Random logs on real topics, and the projector's tables made of them, for tests of replay.

Promises: what `Log.feed` gives to the projector's transaction is what lies on the topics, offset by offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.records import Envelope
from schemas.records import Record as Event
from services.projector.delivery import Record
from tests.histories import is_reference, random_log

NAMES = ("event_id", "subject_id", "other_subject_id", "target_event_id", "link_event_id")
"""Fields that name an event or a subject."""


def many_logs(rng: Random, logs: int, size: int) -> list[Event]:
    """The events of several random logs as one: each has ids of its own, but for the reference facts."""
    found: list[Event] = []
    for number in range(logs):
        found += [_prefixed(event, f"{number}-") for event in random_log(rng, size, "any")]
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


def subjects(events: Sequence[Envelope]) -> set[str]:
    """Who the events are about."""
    return {event.subject_id for event in events}
