"""Others write to the topics with Confluent's own client, and the projector reads it, or says why not.

What it does with readable events is guarded by test_live.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.ids import schema_text
from schemas.records import RECORDS, TOPIC_OF, Record
from schemas.wire import Decoder, encode
from services.producing import partition_of
from services.projector.decoding import Decoded, Decoding
from services.projector.delivery import Record as Fetched
from services.registry import Registry
from services.settings import Addresses
from tests.golden_files import fullest, smallest
from tests.reading import everything
from tests.test_registry import with_field

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parent.parent


@pytest.fixture
async def deployed(topics: Addresses) -> AsyncIterator[Registry]:
    """Empty topics, and the registry as deployment leaves it."""
    async with Registry(topics.registry_url) as registry:
        await registry.deploy()
        yield registry


def serializer(addresses: Addresses, text: str) -> Callable[..., bytes]:
    """Confluent's serializer, which looks schemas up and registers none."""
    client = SchemaRegistryClient({"url": addresses.registry_url})
    conf = {"auto.register.schemas": False, "subject.name.strategy": topic_record_subject_name_strategy}
    serialize: Callable[..., bytes] = AvroSerializer(client, text, conf=conf)
    return serialize


def fields(record: Record) -> dict[str, Any]:
    """A record as a publisher in another project has it: a mapping of its fields."""
    return {key: value for key, value in msgspec.to_builtins(record).items() if key != "record"}


def published(addresses: Addresses, record: Record, **otherwise: Any) -> None:
    """Writes a record as schemas/README.md says; arguments of `produce` may be given otherwise."""
    settings = {"enable.idempotence": True, "partitioner": "murmur2_random"}
    producer = Producer({"bootstrap.servers": addresses.kafka_bootstrap, **settings})
    name = type(record).__name__
    context = SerializationContext(TOPIC_OF[name], MessageField.VALUE)
    value = serializer(addresses, schema_text(name))(fields(record), context)
    told = {"topic": TOPIC_OF[name], "key": record.subject_id, "value": value}
    producer.produce(**told | otherwise)
    assert producer.flush(30) == 0


async def taken(addresses: Addresses, registry: Registry) -> Decoded:
    """What the projector makes of all that lies on the topics."""
    found = await everything(addresses)
    records = [
        Fetched(each.topic, each.partition, each.offset, 0, each.key, each.value, tuple(each.headers))
        for each in found
    ]
    return await Decoding(registry).batch(records)


def test_confluents_serializer_writes_the_bytes_that_we_write(deployed: Registry, topics: Addresses) -> None:
    """Of every record, with as little as the schema allows and with everything, under the released id."""
    for name in RECORDS:
        serialize = serializer(topics, schema_text(name))
        for record in (smallest(name), fullest(name)):
            context = SerializationContext(TOPIC_OF[name], MessageField.VALUE)
            assert serialize(fields(record), context) == encode(record), name


def test_a_schema_that_was_not_released_is_told_before_anything_is_sent(
    deployed: Registry, topics: Addresses
) -> None:
    """Nothing is registered; the publisher's serializer raises."""
    text = with_field(schema_text("LeadAssigned"), name="mood", type=["null", "string"], default=None)
    context = SerializationContext("lead.events", MessageField.VALUE)
    with pytest.raises(SchemaRegistryError, match="404"):
        serializer(topics, text)(fields(smallest("LeadAssigned")), context)


async def test_the_projector_reads_what_others_write_and_says_what_it_cannot(
    deployed: Registry, topics: Addresses
) -> None:
    """A record comes as it was sent, on the partition of its key; one under another key, or none, is
    refused."""
    good, other = fullest("TouchRecorded"), fullest("SubjectsLinked")
    published(topics, good)
    published(topics, other)
    published(topics, good, key="someone else")
    published(topics, good, key=None)
    read = await taken(topics, deployed)
    assert sorted((each.topic, each.record) for each in read.arrivals) == [
        ("lead.events", good),
        ("lead.identity", other),
    ]
    assert {each.partition for each in read.arrivals if each.record == good} == {
        partition_of("lead.events", good.subject_id.encode())
    }
    assert {(refused.reason, refused.origin.event_id) for refused in read.rejects} == {
        ("wrong_key", good.event_id)
    }
    assert {refused.message.partition(",")[0] for refused in read.rejects} == {
        "the key is 'someone else'",
        "the key is missing",
    }


def test_the_publisher_of_the_readme_works(deployed: Registry, topics: Addresses) -> None:
    """The Python code of schemas/README.md, run as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "schemas" / "README.md").read_text(), re.DOTALL)
    servers = {f"LEADLOG_{name.upper()}": value for name, value in topics._asdict().items()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | servers,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (found,) = asyncio.run(everything(topics))
    assert Decoder().decode(found.value).event_id == "web:py-1"
    assert found.partition == partition_of("lead.events", found.key)
