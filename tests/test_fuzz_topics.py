"""Anything may lie on the topics: a worker takes what it can read, refuses the rest, loses none."""

import os
import signal
import struct
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import records as r
from schemas.topics import INPUT_TOPICS, TOPICS
from schemas.wire import Decoder, UnknownSchema, Unreadable, encode, headers
from services.producing import partition_of
from services.registry import Registry
from services.settings import Addresses
from services.store.pool import connect
from services.wait import Behind, wait
from tests.feeding import DEFINITION, prepare_database
from tests.histories import random_record

pytestmark = [pytest.mark.servers, pytest.mark.slow]

RECORDS = 3_000
GOOD = 0.4
"""Part of the records that nothing is wrong with."""
SECONDS = 120.0
HUGE_BYTES = 900_000
LARGEST_BYTES = 1_048_576 - 100
"""Of a value, beside what Kafka adds to it."""
PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}
REASONS = {"not_avro", "bad_value", "not_storable", "unknown_schema", "wrong_topic", "wrong_key"}
"""Each must have occurred."""
NASTY_TEXTS = (
    "",
    "\0",
    "a\0b",
    " ",
    "\ufeff",
    "x" * 300,
    "\U0001f600" * 90,
    "null",
    "'; drop table log.event --",
    "é",
)
NASTY_NUMBERS = (0, -1, 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
NASTY_DOUBLES = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308)


class Sent(NamedTuple):
    """A record for a topic."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    is_good: bool = False


Place = tuple[str, int, int]


def good(rng: Random, number: int) -> Sent:
    """An event that every door takes, on its own subject or one of a few."""
    event: Any = random_record(rng)
    subject = event.subject_id if rng.random() < 0.5 else f"crm:{rng.randrange(400)}"
    event = msgspec.structs.replace(event, event_id=f"good-{number}", subject_id=subject)
    topic = r.TOPIC_OF[type(event).__name__]
    value, told = encode(event), tuple(headers(event))
    key = subject.encode()
    return Sent(topic, partition_of(topic, key), key, value, told, True)


def mutated(rng: Random, number: int) -> Sent:
    """A good event that something happened to."""
    return rng.choice(MUTATIONS)(rng, good(rng, number)._replace(is_good=False))


def noise(rng: Random, sent: Sent) -> Sent:
    """Random bytes, with or without the magic byte."""
    return sent._replace(
        value=rng.choice([b"", b"\0", b"\0\0\0\0\1"]) + rng.randbytes(rng.choice([0, 1, 4, 40, 400]))
    )


def flipped(rng: Random, sent: Sent) -> Sent:
    """Some bytes changed."""
    value = bytearray(sent.value or b"")
    for _ in range(rng.choice([1, 1, 2, 5])):
        value[rng.randrange(len(value))] = rng.randrange(256)
    return sent._replace(value=bytes(value))


def cut(rng: Random, sent: Sent) -> Sent:
    """A part missing at the end, or in between."""
    value = sent.value or b""
    start = rng.randrange(len(value))
    return sent._replace(value=value[:start] + rng.choice([b"", value[start + rng.randrange(1, 9) :]]))


def grown(rng: Random, sent: Sent) -> Sent:
    """Bytes that do not belong."""
    value = sent.value or b""
    place = rng.choice([len(value), rng.randrange(len(value))])
    return sent._replace(value=value[:place] + rng.randbytes(rng.randrange(1, 20)) + value[place:])


def huge(rng: Random, sent: Sent) -> Sent:
    """Nearly as large as the broker takes: noise behind a good beginning."""
    if rng.random() < 0.8:  # each is held in memory for the comparison
        return noise(rng, sent)
    return sent._replace(value=(sent.value or b"") + rng.randbytes(HUGE_BYTES))


def unknown_schema(rng: Random, sent: Sent) -> Sent:
    """A schema id that the registry never gave."""
    number = rng.choice([0, 9_999, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)])
    return sent._replace(value=struct.pack(">bI", 0, number) + (sent.value or b"")[5:])


def other_schema(rng: Random, sent: Sent) -> Sent:
    """The body of one record under the schema of another."""
    return sent._replace(value=struct.pack(">bI", 0, rng.randrange(1, 35)) + (sent.value or b"")[5:])


def tombstone(rng: Random, sent: Sent) -> Sent:
    """No value at all."""
    return sent._replace(value=None)


def wrong_key(rng: Random, sent: Sent) -> Sent:
    """A key that is not the subject."""
    return sent._replace(
        key=rng.choice([None, b"", b"\xff\xfe", b"crm:wrong", (sent.key or b"") + b" ", rng.randbytes(9)])
    )


def wrong_topic(rng: Random, sent: Sent) -> Sent:
    """A good value where it does not belong."""
    topic = rng.choice([topic for topic in INPUT_TOPICS if topic != sent.topic])
    return sent._replace(topic=topic, partition=rng.randrange(PARTITIONS[topic]))


def nasty(rng: Random, sent: Sent) -> Sent:
    """Well-formed, with an extreme value in one field."""
    event: Any = Decoder().decode(sent.value)
    name = rng.choice(type(event).__struct_fields__)
    match getattr(event, name):
        case bool():
            return flipped(rng, sent)
        case str():
            value: Any = rng.choice([*NASTY_TEXTS, rng.randbytes(2_000).hex()])
        case int():
            value = rng.choice(NASTY_NUMBERS)
        case float():
            value = rng.choice(NASTY_DOUBLES)
        case _:
            return flipped(rng, sent)
    event = msgspec.structs.replace(event, **{name: value})
    key: bytes = event.subject_id.encode()
    return sent._replace(key=key, partition=partition_of(sent.topic, key), value=encode(event))


MUTATIONS = (
    *(noise, flipped, flipped, cut, grown, huge, unknown_schema, other_schema),
    *(tombstone, wrong_key, wrong_topic, nasty, nasty),
)


class Worker:
    """`leadlog run projector`, as in production."""

    def __init__(self, addresses: Addresses, folder: Path) -> None:
        environment = os.environ | {
            "LEADLOG_POSTGRES_DSN": addresses.postgres_dsn,
            "LEADLOG_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
            "LEADLOG_REGISTRY_URL": addresses.registry_url,
            "LEADLOG_STATE": str(folder),
            "LEADLOG_CONSUMER_GROUP": f"fuzz-{uuid.uuid4().hex[:8]}",
        }
        program = "from services.cli import main; main()"
        with (folder / "worker.log").open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "run", "projector"], env=environment, stdout=sink, stderr=sink
            )

    def end(self) -> int:
        """Told to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
async def addresses(topics: Addresses, database: str) -> Addresses:
    """Empty topics, registered schemas, a database with the default definition."""
    async with Registry(topics.registry_url) as registry:
        await registry.deploy()
    connection = await connect(database)
    await prepare_database(database, connection, DEFINITION)
    await connection.close()
    return topics._replace(postgres_dsn=database)


@pytest.fixture
def worker(addresses: Addresses, tmp_path: Path) -> Iterator[Worker]:
    """One worker."""
    running = Worker(addresses, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()


async def send(bootstrap: str, rng: Random) -> dict[Place, Sent]:
    """Publishes good and bad records mixed; returns them by their place on the topics."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=1_048_576)
    await producer.start()
    made = [good(rng, n) if rng.random() < GOOD else mutated(rng, n) for n in range(RECORDS)]
    acknowledgements = [
        (
            sent,
            await producer.send(sent.topic, sent.value, sent.key, sent.partition, headers=list(sent.headers)),
        )
        for sent in made
    ]
    places = {}
    for sent, acknowledgement in acknowledgements:
        told = await acknowledgement
        places[told.topic, told.partition, told.offset] = sent
    await producer.stop()
    return places


async def rejected(bootstrap: str) -> list[Any]:
    """Everything on `lead.rejected`."""
    partitions = [TopicPartition("lead.rejected", number) for number in range(PARTITIONS["lead.rejected"])]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    found = []
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            found += records
    await consumer.stop()
    return found


def place_in(headers: dict[str, bytes]) -> Place:
    """Where a rejected record lay."""
    return (headers["topic"].decode(), int(headers["partition"]), int(headers["offset"]))


async def is_in_log(dsn: str, taken: list[Sent]) -> list[Sent]:
    """Those of the records whose content is not among the events of the log."""
    connection = await connect(dsn)
    rows = await connection.fetch(
        "select event_id, content_hash from log.event union select event_id, content_hash from log.event_copy"
    )
    known = {tuple(row) for row in rows}
    await connection.close()
    missing = []
    for sent in taken:
        event, content_hash = Decoder().decode_hashed(sent.value)
        if (event.event_id, content_hash) not in known:
            missing.append(sent)
    return missing


def readable(sent: Sent) -> bool:
    """Whether anything in here could be an event: what even the decoder refuses must be refused."""
    try:
        Decoder().decode(sent.value)
    except (Unreadable, UnknownSchema):
        return False
    return True


async def test_random_and_mutated_records_are_taken_or_refused_and_none_is_lost(
    addresses: Addresses, worker: Worker
) -> None:
    """The worker lives; every good event is in the log; every other record is there too, or once on
    `lead.rejected`, byte for byte, with its reason and place."""
    sent = await send(addresses.kafka_bootstrap, Random(1))
    behind: list[Behind] = []
    assert (await wait(addresses, SECONDS, behind.append)).nothing, behind[-1:]
    assert worker.process.poll() is None
    told = await rejected(addresses.kafka_bootstrap)
    places = [place_in(dict(each.headers)) for each in told]
    assert [place for place, times in Counter(places).items() if times > 1] == []
    for place, each in zip(places, told, strict=True):
        assert (each.key, each.value) == (sent[place].key, sent[place].value), place
        assert not sent[place].is_good, dict(each.headers)
    taken = [each for place, each in sent.items() if place not in set(places)]
    assert [each for each in taken if not readable(each)] == []
    assert await is_in_log(addresses.postgres_dsn, taken) == []
    assert len(taken) > GOOD * RECORDS * 0.9
    assert {dict(each.headers)["reason"].decode() for each in told} >= REASONS
    assert worker.end() == 0


async def test_the_largest_record_that_the_broker_takes_is_told_of_without_its_bytes(
    addresses: Addresses, worker: Worker
) -> None:
    """With reason and place beside it, it would be too large for the broker, and what waits behind it would
    wait for ever."""
    rng = Random(2)
    largest, small = rng.randbytes(LARGEST_BYTES), b"small"
    producer = AIOKafkaProducer(
        bootstrap_servers=addresses.kafka_bootstrap, max_request_size=2 * LARGEST_BYTES
    )
    await producer.start()
    for value in (largest, small):
        await producer.send_and_wait("lead.events", value, b"k")
    await producer.stop()
    behind: list[Behind] = []
    assert (await wait(addresses, SECONDS, behind.append)).nothing, behind[-1:]
    told = {dict(each.headers)["offset"]: each for each in await rejected(addresses.kafka_bootstrap)}
    assert (told[b"0"].key, told[b"0"].value) == (None, None)
    assert dict(told[b"0"].headers)["left_out"] == b"%d bytes" % (LARGEST_BYTES + 1)
    assert told[b"1"].value == small
    assert "left_out" not in dict(told[b"1"].headers)
    connection = await connect(addresses.postgres_dsn)
    assert await connection.fetchval('select value from log.reject where "offset" = 0') == largest
    await connection.close()
