"""Records to Kafka at bulk speed, and the truth about what the broker has acknowledged.

Promises: a chunk is reported as taken once all of its records were acknowledged by all in-sync replicas, and
chunks are reported in the order in which they came. A broker that is away is waited for up to a deadline;
what was not acknowledged is then sent again, which is harmless: an event id counts once, and arrival decides
nothing. Leaves checking of events to `schemas.contract` and positions in files to `services.json_lines`.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Generic, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from schemas import wire
from schemas.records import TOPIC_OF, Record
from services import settings
from services.broker import AWAY, start_producer, stop_producer
from services.plain_words import plainly
from services.producing import Acknowledgement, Outgoing, submit

T = TypeVar("T")


class ServerAway(RuntimeError):
    """A server did not answer within the deadline."""


class Chunk(NamedTuple, Generic[T]):
    """Records that are sent and reported together, and what the caller wants to hear when they are taken."""

    records: list[Record]
    note: T


class Sent(NamedTuple, Generic[T]):
    """A chunk on its way: its batches are kept until they are acknowledged."""

    chunk: Chunk[T]
    acknowledgements: list[Acknowledgement]


class Publisher(Generic[T]):
    """Sends chunks, a bounded number of them at once, and calls `taken` for each that is acknowledged.

    `say` is told, in a sentence, when the broker is waited for. Schema ids are those of the lock file, to
    which the registry was brought when the log was deployed.
    """

    def __init__(self, bootstrap: str, *, taken: Callable[[T], None], say: Callable[[str], None]) -> None:
        self.bootstrap, self.taken, self.say = bootstrap, taken, say
        self._sent: deque[Sent[T]] = deque()
        self._producer: AIOKafkaProducer | None = None
        self._progressed_at = time.monotonic()
        self._said_at = -math.inf

    async def log_id(self) -> str:
        """The id of the Kafka cluster: another log has another one. Waits for it; raises ServerAway."""
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            try:
                await admin.start()
                cluster = await admin.describe_cluster()
            except AWAY as fault:
                await self._again_later(fault)
            else:
                return str(cluster["cluster_id"])
            finally:
                await admin.close()

    async def publish(self, chunks: AsyncIterable[Chunk[T]]) -> None:
        """Send all chunks and wait until all are acknowledged. Raises ServerAway."""
        try:
            async for chunk in chunks:
                await self._send(chunk)
                await asyncio.sleep(0)
                while len(self._sent) > settings.PUBLISH_CHUNKS_IN_FLIGHT or self._oldest_is_through():
                    await self._settle_oldest()
            while self._sent:
                await self._settle_oldest()
        finally:
            await self._close()

    async def _send(self, chunk: Chunk[T]) -> None:
        """Hand a chunk to the producer; with the broker away, that waits until it is back."""
        while True:
            try:
                producer = await self._connected()
                acknowledgements = await submit(producer, map(_outgoing, chunk.records))
            except AWAY as fault:
                await self._again_later(fault)
            else:
                self._sent.append(Sent(chunk, acknowledgements))
                return

    async def _settle_oldest(self) -> None:
        """Wait for the oldest chunk. If the broker fails it, send all that is under way again, in order."""
        try:
            await self._acknowledged(self._sent[0].acknowledgements)
        except AWAY as fault:
            await self._again_later(fault)
            under_way = [sent.chunk for sent in self._sent]
            self._sent.clear()
            for chunk in under_way:
                await self._send(chunk)
        else:
            self._progressed_at = time.monotonic()
            self.taken(self._sent.popleft().chunk.note)

    def _oldest_is_through(self) -> bool:
        return bool(self._sent) and all(each.done() for each in self._sent[0].acknowledgements)

    async def _acknowledged(self, acknowledgements: list[Acknowledgement]) -> None:
        """Wait, and say so when it takes long. Raises what the producer raised, or ServerAway."""
        all_of_them = asyncio.gather(*acknowledgements)
        while True:
            done, _ = await asyncio.wait([all_of_them], timeout=settings.PUBLISH_NOTICE_SECONDS)
            if done:
                all_of_them.result()
                return
            self._say_waiting("no acknowledgement yet")

    async def _again_later(self, fault: BaseException) -> None:
        self._say_waiting(plainly(fault))
        await self._close()
        await asyncio.sleep(settings.PUBLISH_RETRY_SECONDS)

    def _say_waiting(self, reason: str) -> None:
        waited = time.monotonic() - self._progressed_at
        if waited > settings.PUBLISH_DEADLINE_SECONDS:
            raise ServerAway(
                f"the broker at {self.bootstrap} has acknowledged nothing for {waited:.0f} s ({reason}): see "
                "`leadlog status`, then run the same command again"
            )
        if time.monotonic() > self._said_at + settings.PUBLISH_NOTICE_SECONDS:
            self._said_at = time.monotonic()
            self.say(f"waiting for the broker at {self.bootstrap} since {waited:.0f} s: {reason}")

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = await start_producer(self.bootstrap)
        return self._producer

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)


def _outgoing(record: Record) -> Outgoing:
    topic = TOPIC_OF[type(record).__name__]
    return Outgoing(topic, record.subject_id.encode(), wire.encode(record), wire.headers(record))
