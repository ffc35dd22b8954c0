"""The rival: a plain aiokafka group loop around the projector's own transaction. `python -m
tests.bench.bare_loop`.

It does what the worker does, without Faust and without what Faust is there for: no fence while a rebalance is
under way, no health, no bounded end.
"""

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from schemas.topics import INPUT_TOPICS
from services import settings
from services.projector.delivery import Record
from services.projector.handler import Projector


class FromPostgres(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Reads on from the stored offsets."""

    def __init__(self, consumer: AIOKafkaConsumer, projector: Projector) -> None:
        self._consumer = consumer
        self._projector = projector

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing: the offset row is the fence."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Seeks."""
        stored = await self._projector.positions({(each.topic, each.partition) for each in assigned})
        for (topic, partition), offset in stored.items():
            self._consumer.seek(TopicPartition(topic, partition), offset)


async def main() -> None:
    """Reads, applies, commits, until it is killed."""
    addresses = settings.addresses()
    projector = Projector(addresses)
    await projector.start()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=addresses.kafka_bootstrap,
        group_id=settings.CONSUMER_GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    consumer.subscribe(sorted(INPUT_TOPICS), listener=FromPostgres(consumer, projector))
    await consumer.start()
    while True:
        found = await consumer.getmany(timeout_ms=1000, max_records=settings.BATCH_RECORDS)
        batch = [
            Record(
                each.topic,
                each.partition,
                each.offset,
                each.timestamp,
                each.key,
                each.value,
                tuple(each.headers),
            )
            for records in found.values()
            for each in records
        ]
        if batch:
            await projector.apply(batch)
            await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())
