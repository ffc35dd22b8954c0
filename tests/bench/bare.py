"""The rival: a plain aiokafka group consumer around the projector's own transaction, without Faust.

Run as `python -m tests.bench.bare` with the addresses in the environment. It logs and serves metrics as the
projector does, so that it is weighed alike. It does not survive what the engine does: a rebalance or an
outage may end it.
"""

import asyncio
import signal
import sys

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from prometheus_client import start_http_server

from schemas.topics import INPUT_TOPICS
from services import settings
from services.logging import configure
from services.projector.delivery import Record
from services.projector.handler import Projector
from services.settings import Addresses

FETCH_MS = 500

log = structlog.get_logger()


class Positions(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Reads on from the offsets in Postgres."""

    def __init__(self, consumer: AIOKafkaConsumer, handler: Projector) -> None:
        self._consumer = consumer
        self._handler = handler

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """The batch in hand is through: this runs between two fetches."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Seeks."""
        stored = await self._handler.positions({(each.topic, each.partition) for each in assigned})
        for place in assigned:
            self._consumer.seek(place, stored[place.topic, place.partition])
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
    await consumer.start()
    try:
        consumer.subscribe(INPUT_TOPICS, listener=Positions(consumer, handler))
        while True:
            fetched = await consumer.getmany(timeout_ms=FETCH_MS)
            batch = [_record(found) for records in fetched.values() for found in records]
            if batch:
                reached = await handler.apply(batch)
                await consumer.commit({TopicPartition(*place): offset for place, offset in reached.items()})
    finally:
        await consumer.stop()


def _record(found: object) -> Record:
    names = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
    return Record(*(getattr(found, name) for name in names))


async def _run() -> None:
    addresses = settings.addresses()
    server, _ = start_http_server(0, "127.0.0.1")
    log.info("health_served", address=f"http://127.0.0.1:{server.server_port}")
    handler = Projector(addresses)
    await handler.start()
    work = asyncio.create_task(consume(handler, addresses, settings.CONSUMER_GROUP))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("stopped")
    finally:
        await handler.stop()


if __name__ == "__main__":
    configure("bare", sys.argv[1], settings.LOG_LEVEL)
    uvloop.run(_run())
