"""The real broker: topics as the contract says, records that arrive once and in order, honest end offsets."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from confluent_kafka import KafkaException, Producer
from prometheus_client import REGISTRY

from schemas.records import TOPIC_OF
from schemas.topics import INPUT_TOPICS, TOPICS, Topic
from schemas.wire import Decoder, encode, headers
from services.broker import Ends, WrongTopics, create_producer, end_offsets, ensure_topics, wrong_topics
from services.projector.topics import look
from services.settings import Addresses
from tests.golden_files import smallest

pytestmark = pytest.mark.servers
LOG_APPEND_TIME = 1


@pytest.fixture
async def own(stack: Addresses) -> AsyncIterator[Topic]:
    """A topic of this test's own, deleted at the end."""
    topic = Topic(f"test.{uuid.uuid4().hex}", 2, "-1")
    yield topic
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    await admin.start()
    await admin.delete_topics([topic.name])
    await admin.close()


async def test_a_missing_topic_is_created_once(stack: Addresses, own: Topic) -> None:
    """The first deployment makes it, the second finds it as it should be."""
    assert await ensure_topics(stack.kafka_bootstrap, [own]) == [own.name]
    assert await ensure_topics(stack.kafka_bootstrap, [own]) == []


async def test_a_topic_that_is_different_is_named(stack: Addresses, own: Topic) -> None:
    """Other partitions and settings are told with what was expected, and left alone; the projector, which
    read no partition that was added and said that all is well, tells by its metric."""
    await ensure_topics(stack.kafka_bootstrap, [own])
    wanted = own._replace(partitions=3, retention_ms="86400000")
    with pytest.raises(WrongTopics) as wrong:
        await ensure_topics(stack.kafka_bootstrap, [wanted])
    assert f"topic {own.name} has partitions 2, expected 3" in str(wrong.value)
    assert f"topic {own.name} has retention.ms -1, expected 86400000" in str(wrong.value)
    gone = Topic(f"{own.name}.gone", 2, "-1")
    assert await wrong_topics(stack.kafka_bootstrap, [wanted, gone]) == [
        f"there is no topic {gone.name}",
        *str(wrong.value).partition(". ")[0].split("; "),
    ]
    assert await ensure_topics(stack.kafka_bootstrap, [own]) == []
    for looked_for, differences in ((wanted, 2), (own, 0)):
        await look(stack.kafka_bootstrap, [looked_for])
        assert REGISTRY.get_sample_value("leadlog_projector_wrong_topics") == differences


async def test_the_topics_of_the_contract_are_as_it_says(topics: Addresses) -> None:
    """Five topics, none of them compacted, each record on one of the three that are read."""
    assert await ensure_topics(topics.kafka_bootstrap) == []
    assert [topic.name for topic in TOPICS if topic.settings["cleanup.policy"] == "delete"] == [
        "lead.events",
        "lead.identity",
        "lead.reference",
        "lead.derived",
        "lead.rejected",
    ]
    assert set(TOPIC_OF.values()) == set(INPUT_TOPICS)


async def test_records_arrive_with_headers_and_the_time_of_the_broker(topics: Addresses) -> None:
    """What is sent can be read again, and the offsets say how much there is."""
    record = smallest("SubjectErased")
    key = record.subject_id.encode()
    producer = create_producer(topics.kafka_bootstrap)
    await producer.start()
    try:
        sent = await producer.send_and_wait("lead.identity", encode(record), key=key, headers=headers(record))
    finally:
        await producer.stop()
    ends = await end_offsets(topics.kafka_bootstrap, ["lead.identity"])
    assert ends == {("lead.identity", number): int(number == sent.partition) for number in range(12)}
    read = await first(topics.kafka_bootstrap, TopicPartition("lead.identity", sent.partition))
    assert Decoder().decode(read.value) == record
    assert (read.key, list(read.headers), read.timestamp_type) == (key, headers(record), LOG_APPEND_TIME)


def test_a_connection_just_closed_is_a_broker_away(topics: Addresses) -> None:
    """On uvloop, which the projector and the door run on, it was an error that nobody expected: it ended
    them. The next question is answered."""

    async def ask() -> None:
        ends = Ends(topics.kafka_bootstrap)
        asked = {("lead.events", 0)}
        before = await ends.ask(asked)
        _, closed = await asyncio.open_connection(*topics.kafka_bootstrap.split(":"))
        closed.close()
        await closed.wait_closed()
        [connection] = ends._consumer._client._conns.values()
        connection._writer.write = closed.write  # as until the client hears of it
        with pytest.raises(KafkaError, match="the handler is closed"):
            await ends.ask(asked)
        assert await ends.ask(asked) == before
        await ends.close()

    uvloop.run(ask())


@pytest.mark.slow
def test_no_transactional_producer_begins(stack: Addresses) -> None:
    """One that did left holes in the offsets, at which the projector stood for ever."""
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "transactional.id": "streams"})
    with pytest.raises(KafkaException):
        producer.init_transactions(5)


async def first(bootstrap: str, partition: TopicPartition) -> ConsumerRecord[bytes, bytes]:
    """The first record of a partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        return await consumer.getone(partition)
    finally:
        await consumer.stop()
