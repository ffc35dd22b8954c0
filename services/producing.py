"""Messages to Kafka in batches of one partition each: one acknowledgement a batch costs far less than one a
message.

Promises: messages of one partition keep their order, and the partition of a key is that of Kafka's default
partitioner. Leaves waiting for what was submitted, and doing it again, to the caller.
"""

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.records import ID_CHARACTERS
from schemas.topics import TOPICS, Partition

Acknowledgement = asyncio.Future[object]
PARTITIONS_OF = {topic.name: topic.partitions for topic in TOPICS}
KNOWN_KEY_BYTES = 4 * ID_CHARACTERS
"""Of the longest subject id. Longer keys, which only rejected records have, are not remembered."""


class Outgoing(NamedTuple):
    """A message to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def partition_of(topic: str, key: bytes) -> int:
    """The partition of a key, as Kafka's default partitioner has it."""
    hashed = _hashed(key) if len(key) <= KNOWN_KEY_BYTES else murmur2(key)
    return int((hashed & 0x7FFFFFFF) % PARTITIONS_OF[topic])


@lru_cache(maxsize=10_000)
def _hashed(key: bytes) -> int:
    hashed: int = murmur2(key)
    return hashed


async def submit(producer: AIOKafkaProducer, messages: Iterable[Outgoing]) -> list[Acknowledgement]:
    """Queues messages; returns what to wait for. Raises KafkaError."""
    acknowledgements: list[Acknowledgement] = []
    for partition, members in _by_partition(messages).items():
        batch = producer.create_batch()
        for message in members:
            if not _fits(batch, message):
                acknowledgements.append(await _queue(producer, batch, partition))
                batch = producer.create_batch()
                _fits(batch, message)  # the first always does
        acknowledgements.append(await _queue(producer, batch, partition))
    return acknowledgements


def _by_partition(messages: Iterable[Outgoing]) -> dict[Partition, list[Outgoing]]:
    groups: dict[Partition, list[Outgoing]] = {}
    for each in messages:
        groups.setdefault((each.topic, partition_of(each.topic, each.key or b"")), []).append(each)
    return groups


def _fits(batch: BatchBuilder, message: Outgoing) -> bool:
    """Adds a message unless the batch is full."""
    _, key, value, headers = message
    return batch.append(key=key, value=value, timestamp=None, headers=headers) is not None


async def _queue(producer: AIOKafkaProducer, batch: BatchBuilder, partition: Partition) -> Acknowledgement:
    topic, number = partition
    acknowledgement: Acknowledgement = await producer.send_batch(batch, topic, partition=number)
    acknowledgement.add_done_callback(_seen)
    return acknowledgement


def _seen(acknowledgement: Acknowledgement) -> None:
    """Look at a failure, so that one of a batch which is sent again anyway is not logged as never seen."""
    if not acknowledgement.cancelled():
        acknowledgement.exception()
