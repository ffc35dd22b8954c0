"""The broker: topics with the settings of the contract, a producer that loses and doubles nothing, end
offsets.

Promises: `ensure_topics` never changes or deletes a topic that is there; one that is not as the contract says
is named with what differs. Leaves what is sent to the callers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    for_code,
)

from schemas.topics import INPUT_TOPICS, TOPICS, Offsets, Partition, Topic
from services import settings

INPUT_PARTITIONS = frozenset(
    (topic.name, number)
    for topic in TOPICS
    if topic.name in INPUT_TOPICS
    for number in range(topic.partitions)
)
AWAY = (KafkaError, OSError, TimeoutError)
"""What a broker that is away makes of a call."""
ANSWER_SECONDS = 5.0
"""A server that has not answered by then counts as away."""

VISIBLE_SECONDS = 30
"""How long a topic may take from its creation until the broker knows it. It takes some 10 ms."""
LOOK_AGAIN_SECONDS = 0.05


class WrongTopics(RuntimeError):
    """Topics are there with other partitions or settings than the contract says."""


class KafkaAway(ConnectionError):
    """No broker answers."""


Client = TypeVar("Client", AIOKafkaAdminClient, AIOKafkaConsumer, AIOKafkaProducer)


@contextmanager
def _closed_is_away() -> Iterator[None]:
    """Where uvloop refuses to write to a connection that was closed a moment ago, aiokafka lets its
    RuntimeError through (issue 1038): the broker is away."""
    try:
        yield
    except RuntimeError as error:
        if "the handler is closed" not in str(error):
            raise
        raise KafkaConnectionError(str(error)) from error


@asynccontextmanager
async def connected(client: Client, bootstrap: str) -> AsyncIterator[Client]:
    """A client while it is connected. Raises KafkaAway when it cannot be."""
    try:
        with _closed_is_away():
            await client.start()
            yield client
    except KafkaConnectionError as error:
        raise KafkaAway(f"Kafka at {bootstrap} does not answer") from error
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def create_producer(bootstrap: str) -> AIOKafkaProducer:
    """A producer that is idempotent and waits for all in-sync replicas. Not started; needs a running loop."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        linger_ms=settings.PRODUCER_LINGER_MS,
        max_batch_size=settings.PRODUCER_BATCH_BYTES,
    )


async def start_producer(bootstrap: str) -> AIOKafkaProducer:
    """Such a producer, connected. Raises one of AWAY."""
    producer = create_producer(bootstrap)
    try:
        with _closed_is_away():
            await producer.start()
    except (*AWAY, asyncio.CancelledError):
        await producer.stop()
        raise
    return producer


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Lets go of a producer, without waiting for long for a broker that is not there."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=ANSWER_SECONDS)
    stopping.cancel()


class Ends:
    """Asks Kafka how far the topics go, over its own connection and outside any group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer: Any = None

    async def ask(self, partitions: AbstractSet[Partition]) -> Offsets:
        """Next offset of each partition. Raises KafkaError or TimeoutError when the broker is away."""
        try:
            with _closed_is_away():
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._ask(partitions)
        except (KafkaError, TimeoutError):
            await self.close()
            raise

    async def _ask(self, partitions: AbstractSet[Partition]) -> Offsets:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap)
            await self._consumer.start()
        if not partitions:
            await self._consumer.topics()
            return {}
        found = await self._consumer.end_offsets([TopicPartition(*partition) for partition in partitions])
        return {(tp.topic, tp.partition): end for tp, end in found.items()}

    async def close(self) -> None:
        """Closes the connection; the next question opens a new one."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


async def ensure_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """Create what is missing, then compare all. Returns what was created.

    Raises WrongTopics, KafkaAway, KafkaError.
    """
    async with connected(AIOKafkaAdminClient(bootstrap_servers=bootstrap), bootstrap) as admin:
        present = await admin.list_topics()
        missing = [topic for topic in topics if topic.name not in present]
        await _create(admin, missing)
        await _visible(admin, topics)
        wrong = await _differences(admin, topics)
    if wrong:
        raise WrongTopics(
            "; ".join(wrong)
            + ". Settings can be corrected with kafka-configs; a topic with another number of "
            "partitions cannot be repaired in place without breaking the order of its keys"
        )
    return [topic.name for topic in missing]


async def wrong_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """One line for each thing about the topics that is not as the contract says. Changes nothing.

    Raises KafkaAway, KafkaError.
    """
    async with connected(AIOKafkaAdminClient(bootstrap_servers=bootstrap), bootstrap) as admin:
        present = await admin.list_topics()
        there = [topic for topic in topics if topic.name in present]
        missing = [f"there is no topic {topic.name}" for topic in topics if topic not in there]
        return [*missing, *await _differences(admin, there)]


async def end_offsets(bootstrap: str, topics: Iterable[str]) -> Offsets:
    """The next offset of every partition of topics of the contract. Raises KafkaAway, KafkaError."""
    wanted = set(topics)
    places = [
        TopicPartition(topic.name, number)
        for topic in TOPICS
        if topic.name in wanted
        for number in range(topic.partitions)
    ]
    async with connected(AIOKafkaConsumer(bootstrap_servers=bootstrap), bootstrap) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
    return {(place.topic, place.partition): offset for place, offset in ends.items()}


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    if not topics:
        return
    new = [
        NewTopic(topic.name, topic.partitions, settings.TOPIC_COPIES, topic_configs=topic.settings)
        for topic in topics
    ]
    answer = await admin.create_topics(new)
    for name, code, *_ in answer.topic_errors:
        # Somebody else may create them at the same moment; the comparison that follows judges the result.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name} was not created")


async def _visible(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Wait until the broker has heard from its controller of what was just created."""
    names = [topic.name for topic in topics]
    deadline = time.monotonic() + VISIBLE_SECONDS
    while any(about["error_code"] for about in await admin.describe_topics(names)):
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"created topics are not to be seen after {VISIBLE_SECONDS} s: {names}")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _differences(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    """One line for each thing that is not as the contract says."""
    names = [topic.name for topic in topics]
    partitions = {about["topic"]: len(about["partitions"]) for about in await admin.describe_topics(names)}
    settings_of = await _settings(admin, names)
    wrong = []
    for topic in topics:
        wanted = {"partitions": str(topic.partitions), **topic.settings}
        there = {"partitions": str(partitions.get(topic.name, 0)), **settings_of.get(topic.name, {})}
        wrong += [
            f"topic {topic.name} has {name} {there.get(name)}, expected {value}"
            for name, value in wanted.items()
            if there.get(name) != value
        ]
    return wrong


async def _settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic name to its configuration in force."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = {}
    for answer in await admin.describe_configs(wanted):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(message)
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
