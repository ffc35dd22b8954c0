"""What lies on the topics."""

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.topics import INPUT_TOPICS
from services.broker import end_offsets
from services.settings import Addresses


async def everything(addresses: Addresses, topics: Iterable[str] = INPUT_TOPICS) -> list[ConsumerRecord]:
    """All records of some topics, those of one partition in order."""
    ends = await end_offsets(addresses.kafka_bootstrap, topics)
    consumer = AIOKafkaConsumer(bootstrap_servers=addresses.kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = {TopicPartition(topic, number): end for (topic, number), end in ends.items() if end}
        consumer.assign(list(places))
        for place in places:
            consumer.seek(place, 0)
        found: list[ConsumerRecord] = []
        while len(found) < sum(places.values()):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def records_on_topics(addresses: Addresses) -> int:
    """How many there are."""
    return sum((await end_offsets(addresses.kafka_bootstrap, INPUT_TOPICS)).values())
