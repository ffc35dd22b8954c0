"""From the topics to buckets: records go to disk undecoded, beside what is needed to find copies of an id.

Promises: whatever could be a record of the contract is in the bucket of its journey; what lies on a wrong
topic or under a wrong key is in none, as on the live path. Decodes only what the first bytes do not tell.
Leaves records that turn out to be unreadable to whoever decodes them.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from projections.identity import naming
from schemas.ids import RELEASED
from schemas.records import TOPIC_OF, Envelope, EventRetracted, SubjectsLinked, SubjectsUnlinked
from schemas.topics import REFERENCE
from schemas.wire import MAGIC, PREFIX
from services.projector.decoding import Decoding
from services.projector.delivery import Record
from services.replay import topics
from services.replay.job import Done, Job, Stopwatch, Task
from services.replay.routing import Routing, crc_of, routing, unpacked
from services.replay.spill import Spill

NAMING = {EventRetracted.__name__, SubjectsUnlinked.__name__}
ROUTING = "routing"
LONGEST = 126
"""Avro writes the length of texts of up to 63 bytes as its double in one byte."""


def _prefixes(topic: str) -> frozenset[bytes]:
    """First bytes of a topic's records that need no decoding: they name no other event, and their schemas are
    released and begin with event and subject id."""
    return frozenset(
        PREFIX.pack(MAGIC, schema_id)
        for schema_id, release in RELEASED.items()
        if TOPIC_OF.get(release.record) == topic
        and release.record not in NAMING
        and _begins_with_ids(release.text)
    )


def _begins_with_ids(schema: str) -> bool:
    fields = msgspec.json.decode(schema)["fields"]
    return [(each["name"], each["type"]) for each in fields[:2]] == [
        ("event_id", "string"),
        ("subject_id", "string"),
    ]


PLAIN = {topic: _prefixes(topic) for topic in set(TOPIC_OF.values())}


def event_id_of(value: bytes, key: bytes) -> bytes | None:
    """The event id in the first bytes of a value whose subject is the key; None = decode it to know."""
    size = len(value)
    if size < PREFIX.size + 2 or value[5] > LONGEST or value[5] & 1:
        return None
    end = 6 + (value[5] >> 1)
    if end >= size or value[end] > LONGEST or value[end] & 1:
        return None
    if value[end + 1 : end + 1 + (value[end] >> 1)] != key:
        return None
    return value[6:end]


async def route(job: Job, task: Task) -> Done:
    """Finds the links of some ranges of the identity topic."""
    stopwatch = Stopwatch()
    links, records = [], 0
    async with job.decoding() as decoding:
        async for _, portion in topics.read(job.addresses.kafka_bootstrap, task.ranges):
            decoded = await decoding.batch(portion)
            records += len(portion)
            links += [
                (crc_of(each.subject_id), crc_of(each.other_subject_id))
                for each in (arrival.record for arrival in decoded.arrivals)
                if isinstance(each, SubjectsLinked)
            ]
    write_whole(job.folder / f"route-{task.number}", msgspec.msgpack.encode(links))
    return stopwatch.done(records)


def write_routing(job: Job, units: int) -> None:
    """Joins what the units of `route` found."""
    files = (job.folder / f"route-{number}" for number in range(units))
    links = chain.from_iterable(
        msgspec.msgpack.decode(file.read_bytes(), type=list[tuple[int, int]]) for file in files
    )
    write_whole(job.folder / ROUTING, routing(links, job.buckets).packed())


async def read(job: Job, task: Task) -> Done:
    """Spills some ranges."""
    stopwatch = Stopwatch()
    found = unpacked((job.folder / ROUTING).read_bytes())
    path = job.folder / f"read-{task.number}"
    records = 0
    async with job.decoding() as decoding:
        with Spill(path, task.number, job.buckets + 1, job.id_buckets) as spill:
            reader = _Reader(job, spill, found, decoding)
            async for topic, portion in topics.read(job.addresses.kafka_bootstrap, task.ranges):
                await reader.take(topic, portion)
                records += len(portion)
    return stopwatch.done(records)


class _Reader:
    """Puts records where they belong."""

    def __init__(self, job: Job, spill: Spill, found: Routing, decoding: Decoding) -> None:
        self._spill, self._routing = spill, found
        self._reference_bucket = job.buckets
        self._as_known_at = job.as_known_at
        self._decoding = decoding

    async def take(self, topic: str, portion: Sequence[Any]) -> None:
        """Spills what the first bytes tell, decodes the others."""
        plain = PLAIN[topic] if self._as_known_at is None and topic != REFERENCE else frozenset()
        odd: list[Record] = []
        add, bucket_of = self._spill.add, self._routing.bucket_of
        for record in portion:
            value, key = record.value, record.key
            if value and key and value[:5] in plain and (event_id := event_id_of(value, key)):
                add(bucket_of(key), event_id, value)
            else:
                odd.append(record)
        if odd:
            await self._decode(odd)

    async def _decode(self, odd: Sequence[Record]) -> None:
        for event, _, body, *_ in (await self._decoding.batch(odd)).arrivals:
            if self._as_known_at is None or event.recorded_at <= self._as_known_at:
                self._spill.add(self._bucket_of(event), event.event_id.encode(), body)
                self._mark(event)

    def _bucket_of(self, event: Envelope) -> int:
        if TOPIC_OF[type(event).__name__] == REFERENCE:
            return self._reference_bucket
        return self._routing.bucket_of(event.subject_id.encode())

    def _mark(self, event: Envelope) -> None:
        if type(event).__name__ in NAMING:
            self._spill.mark(event.event_id)
            if target := naming(event).target:
                self._spill.mark(target)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(path)
