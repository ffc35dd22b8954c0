"""Records to their topics, and which of them Kafka has acknowledged.

Promises: acknowledged means by all in-sync replicas, from an idempotent producer. Records of all requests
share the producer's batches: those that come while one is under way leave together. What is not acknowledged
in time is told so; it may arrive later, which is harmless, since an event id counts once. Memory is bounded:
the producer takes no more until its batches have left.
"""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas import wire
from schemas.records import TOPIC_OF, Record
from services import settings
from services.broker import start_producer, stop_producer
from services.ingest.answers import away
from services.ingest.turn import Turn
from services.producing import Acknowledgement, partition_of

log = structlog.get_logger(__name__)


class Sender:
    """One producer at a time; one that failed is replaced."""

    def __init__(self, bootstrap: str) -> None:
        self.silent_looks: int | None = None
        """How often Kafka answered since it failed to acknowledge in time; None once it has again."""
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._retired: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Have a producer; called whenever Kafka has answered a look. Raises one of AWAY."""
        if self._producer is None:
            self._producer = await start_producer(self._bootstrap)
        if self.silent_looks is not None:
            self.silent_looks += 1

    async def close(self) -> None:
        """Waits a moment for what is under way, and lets go."""
        if self._producer is not None:
            self._retire(self._producer)
        await asyncio.gather(*self._retired)

    async def send(self, records: Sequence[Record], traceparent: str | None) -> list[bool]:
        """Which records were acknowledged, in order. Raises NotTaken 503 when nothing can be sent."""
        producer = self._producer
        if producer is None:
            raise away(["kafka"])
        under_way: list[Acknowledgement] = []
        try:
            async with asyncio.timeout(settings.INGEST_ACK_SECONDS):
                await _queue(producer, records, traceparent, under_way)
                # Not one by one: running out of time would cancel the one awaited, which may still come.
                await asyncio.wait(under_way)
        except TimeoutError:
            if producer is self._producer:  # of one that was replaced meanwhile nothing is expected any more
                self.silent_looks = self.silent_looks or 0
            log.warning("not_acknowledged_in_time", events=len(records))
        except KafkaError as error:
            self._fail(producer, error)
        return self._outcome(producer, under_way) + [False] * (len(records) - len(under_way))

    def _outcome(self, producer: AIOKafkaProducer, under_way: list[Acknowledgement]) -> list[bool]:
        errors = [self._error_of(each) for each in under_way]
        for error in errors:
            if isinstance(error, KafkaError):
                self._fail(producer, error)
        return [error is None for error in errors]

    def _error_of(self, acknowledgement: Acknowledgement) -> BaseException | None:
        """Why an event is not acknowledged; None when it is."""
        if not acknowledgement.done():
            acknowledgement.add_done_callback(self._error_of)
            return TimeoutError()
        if acknowledgement.cancelled():
            return TimeoutError()
        error = acknowledgement.exception()
        if error is None:
            self.silent_looks = None
        return error

    def _fail(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Do without a producer that gave up a record: it may have lost count of its sequence numbers."""
        if producer is self._producer:
            log.warning("producer_replaced", error=repr(error))
            self._retire(producer)

    def _retire(self, producer: AIOKafkaProducer) -> None:
        self._producer, self.silent_looks = None, None
        stopping = asyncio.create_task(stop_producer(producer))
        self._retired.add(stopping)
        stopping.add_done_callback(self._retired.discard)


async def _queue(
    producer: AIOKafkaProducer,
    records: Sequence[Record],
    traceparent: str | None,
    under_way: list[Acknowledgement],
) -> None:
    turn = Turn()
    for record in records:
        topic, key = TOPIC_OF[type(record).__name__], record.subject_id.encode()
        acknowledgement = await producer.send(
            topic,
            wire.encode(record),
            key=key,
            partition=partition_of(topic, key),
            headers=wire.headers(record, traceparent),
        )
        under_way.append(acknowledgement)
        await turn.over()
