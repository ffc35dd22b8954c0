"""Publish-to-visible of a steady trickle of events, and how long the commits in it took.

An event's time begins right before it is handed to the producer. It ends when a reader on a connection of its
own sees the stored offset of its partition beyond it: offsets are committed with the rows. The reader asks
without a pause while an event is under way, and not at all otherwise: its resolution is one round trip (about
0.3 ms), and it takes little from the two cores. Events leave at fixed moments whatever became of those
before, so a stall counts for every event that it holds up.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from schemas.records import TOPIC_OF, Record
from schemas.wire import encode, headers
from services.broker import create_producer
from services.settings import Addresses

DEADLINE_SECONDS = 60.0
"""An event that is not seen by then ends the measurement."""
COMMITS = "leadlog_projector_commit_seconds"

Place = tuple[str, int]


class UnderWay(NamedTuple):
    """An event that is not seen yet."""

    offset: int
    sent: float
    counts: bool


class Trickle:
    """Sends and watches; `found` are the milliseconds of the events that count."""

    def __init__(self, addresses: Addresses) -> None:
        self.found: list[float] = []
        self._addresses = addresses
        self._under_way: dict[Place, deque[UnderWay]] = defaultdict(deque)
        self._unseen = 0
        self._news, self._all_seen = asyncio.Event(), asyncio.Event()

    async def run(self, records: Iterable[tuple[Record, bool]], per_second: float) -> None:
        """Sends the records at the rate and waits for the last; those marked False are not measured."""
        producer = create_producer(self._addresses.kafka_bootstrap)
        await producer.start()
        watching = asyncio.create_task(self._watch())
        try:
            began = time.monotonic()
            for number, (record, counts) in enumerate(records):
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
                await self._send(producer, record, counts)
            await asyncio.wait_for(self._all_seen.wait(), DEADLINE_SECONDS)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, record: Record, counts: bool) -> None:
        value, key = encode(record), record.subject_id.encode()
        self._unseen += 1
        self._all_seen.clear()
        sent = time.monotonic()
        acknowledged = await producer.send(
            TOPIC_OF[type(record).__name__], value, key=key, headers=headers(record)
        )
        acknowledged.add_done_callback(lambda done: self._sent(done.result(), sent, counts))

    def _sent(self, metadata: Any, sent: float, counts: bool) -> None:
        under_way = UnderWay(metadata.offset, sent, counts)
        self._under_way[metadata.topic, metadata.partition].append(under_way)
        self._news.set()

    async def _watch(self) -> None:
        connection = await asyncpg.connect(self._addresses.postgres_dsn)
        try:
            look = await connection.prepare("select topic, partition, next_offset from log.position")
            while True:
                await self._news.wait()
                stored = {(row[0], row[1]): row[2] for row in await look.fetch()}
                self._see(stored, time.monotonic())
        finally:
            await connection.close()

    def _see(self, stored: dict[Place, int], now: float) -> None:
        for place, waiting in self._under_way.items():
            while waiting and waiting[0].offset < stored.get(place, 0):
                seen = waiting.popleft()
                self._unseen -= 1
                if seen.counts:
                    self.found.append((now - seen.sent) * 1e3)
        if not any(self._under_way.values()):
            self._news.clear()
        if not self._unseen:
            self._all_seen.set()


class Commits(NamedTuple):
    """Cumulative counts of commits by upper bound in seconds, and their total time."""

    buckets: dict[float, float]
    seconds: float

    def since(self, before: Commits) -> Commits:
        """What was added."""
        added = {bound: number - before.buckets.get(bound, 0.0) for bound, number in self.buckets.items()}
        return Commits(added, self.seconds - before.seconds)

    @property
    def number(self) -> float:
        """How many."""
        return max(self.buckets.values())

    def percentile(self, share: float) -> float:
        """Milliseconds, linear within a bucket: no finer than the bounds of the histogram."""
        wanted, lower, below = self.number * share, 0.0, 0.0
        for bound, number in sorted(self.buckets.items()):
            if number >= wanted and number > below and bound != float("inf"):
                return (lower + (bound - lower) * (wanted - below) / (number - below)) * 1e3
            lower, below = min(bound, 1e9), number
        return lower * 1e3


def commits(pages: Iterable[str]) -> Commits:
    """The commits on the Prometheus pages of some workers."""
    buckets: dict[float, float] = defaultdict(float)
    seconds = 0.0
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples if family.name == COMMITS else ():
                if sample.name.endswith("_bucket"):
                    buckets[float(sample.labels["le"])] += sample.value
                elif sample.name.endswith("_sum"):
                    seconds += sample.value
    return Commits(dict(buckets), seconds)
