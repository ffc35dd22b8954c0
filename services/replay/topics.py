"""Ranges of the topics, read once from their first record to their last.

Promises: every record of a range comes, in the order of its partition; one that is missing raises. Leaves
where a range ends to the caller.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import Partition
from services import settings
from services.projector.delivery import OffsetGap

FETCH_BYTES = 4 * 1024 * 1024
"""Fetched of one partition at most at once: bounds memory, and is thousands of records."""
POLL_RECORDS = 10_000
POLL_SECONDS = 1.0


class Range(NamedTuple):
    """Records of one partition: offsets from `begin` up to, not including, `end`."""

    topic: str
    partition: int
    begin: int
    end: int


class Stalled(ConnectionError):
    """The broker answers, but no record came for long."""


def units_of(ends: Mapping[Partition, int], records: int) -> list[list[Range]]:
    """All records before these offsets, in units of about so many."""
    units: list[list[Range]] = [[]]
    left = records
    for piece in _pieces(ends, records):
        if units[-1] and piece.end - piece.begin > left:
            units.append([])
            left = records
        units[-1].append(piece)
        left -= piece.end - piece.begin
    return [unit for unit in units if unit]


def _pieces(ends: Mapping[Partition, int], records: int) -> Iterator[Range]:
    for (topic, partition), end in sorted(ends.items()):
        for begin in range(0, end, records):
            yield Range(topic, partition, begin, min(end, begin + records))


async def read(bootstrap: str, ranges: Iterable[Range]) -> AsyncIterator[tuple[str, Sequence[Any]]]:
    """The ranges' records in portions, each with its topic. Raises OffsetGap, Stalled, KafkaError.

    Each range is of another partition. Nobody's offsets are committed.
    """
    wanted = {TopicPartition(each.topic, each.partition): each for each in ranges}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    try:
        consumer.assign(list(wanted))
        for place, each in wanted.items():
            consumer.seek(place, each.begin)
        async for topic, records in _portions(consumer, wanted):
            yield topic, records
    finally:
        await consumer.stop()


async def _portions(
    consumer: AIOKafkaConsumer, wanted: dict[TopicPartition, Range]
) -> AsyncIterator[tuple[str, Sequence[Any]]]:
    reached = {place: each.begin for place, each in wanted.items()}
    progressed = time.monotonic()
    while reached:
        found = await consumer.getmany(
            *reached, timeout_ms=int(POLL_SECONDS * 1000), max_records=POLL_RECORDS
        )
        for place, records in found.items():
            _check(place, reached[place], records)
            reached[place] += len(records)
            progressed = time.monotonic()
            end = wanted[place].end
            yield place.topic, records[: len(records) - max(0, reached[place] - end)]
            if reached[place] >= end:
                del reached[place]
                consumer.pause(place)
        if time.monotonic() - progressed > settings.REPLAY_STALLED_SECONDS:
            raise Stalled(f"no record came for {settings.REPLAY_STALLED_SECONDS} s from {sorted(reached)}")


def _check(place: TopicPartition, expected: int, records: Sequence[Any]) -> None:
    """Offsets are dense: the last one says whether any is missing."""
    if records and records[-1].offset != expected + len(records) - 1:
        offset, got = next(
            (offset, record.offset)
            for offset, record in enumerate(records, expected)
            if record.offset != offset
        )
        raise OffsetGap((place.topic, place.partition), offset, got)
