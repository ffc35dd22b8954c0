"""The rival: a plain aiokafka group consumer around the projector's own transaction, without Faust.

Run as `python -m tests.bench.bare NAME` with the addresses in the environment. It logs and serves metrics
as the projector does, so that it is weighed alike. It has no answer to what the engine survives: a rebalance
that tears a batch, an outage, a hang.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from typing import Any

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError
from prometheus_client import start_http_server

from schemas.topics import INPUT_TOPICS
from services import settings
from services.logging import configure
from services.projector.delivery import Record
from services.projector.handler import Projector
from services.settings import Addresses

FETCH_MS = 1_000
"""Longest wait for records; they are handed over as soon as there are any."""

log = structlog.get_logger("services.bare")


class Positions(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Reads on from the offsets in Postgres."""

    def __init__(self, consumer: AIOKafkaConsumer, handler: Projector) -> None:
        self._consumer = consumer
        self._handler = handler

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing: the offset row is the fence."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Seeks."""
        stored = await self._handler.positions({(each.topic, each.partition) for each in assigned})
        for (topic, partition), offset in stored.items():
            self._consumer.seek(TopicPartition(topic, partition), offset)
        log.info("partitions_assigned", partitions=[f"{each.topic}-{each.partition}" for each in assigned])


async def consume(handler: Projector, addresses: Addresses, group: str) -> None:
    """Fetch, store, commit, for ever."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=addresses.kafka_bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=settings.BATCH_RECORDS,
        heartbeat_interval_ms=1_000,
    )
    consumer.subscribe(sorted(INPUT_TOPICS), listener=Positions(consumer, handler))
    await consumer.start()
    try:
        while True:
            fetched = await consumer.getmany(timeout_ms=FETCH_MS)
            if batch := [_record(found) for records in fetched.values() for found in records]:
                await handler.apply(batch)
                with suppress(CommitFailedError):  # another worker came: the position is in Postgres
                    await consumer.commit()
    finally:
        await consumer.stop()


def _record(found: Any) -> Record:
    place = (found.topic, found.partition, found.offset)
    return Record(*place, found.timestamp, found.key, found.value, tuple(found.headers))


async def _run() -> None:
    server, _ = start_http_server(0, "127.0.0.1")
    log.info("health_served", address=f"http://127.0.0.1:{server.server_port}")
    handler = Projector(settings.addresses())
    await handler.start()
    work = asyncio.create_task(consume(handler, settings.addresses(), settings.CONSUMER_GROUP))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await asyncio.wait([work])
    await handler.stop()
    if not work.cancelled():
        work.result()


if __name__ == "__main__":
    configure("bare", sys.argv[1], settings.LOG_LEVEL)
    uvloop.run(_run())
