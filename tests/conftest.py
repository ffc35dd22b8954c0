"""Fixtures that give tests real servers, fresh databases and empty topics."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from schemas.topics import TOPICS
from services.settings import Addresses
from tests.servers import DEADLINE_SECONDS, LOOK_AGAIN_SECONDS, Servers, begin


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this run, to be killed, stopped and started by tests of accidents."""
    running = begin()
    yield running
    running.close()


@pytest.fixture(scope="session")
def stack(servers: Servers) -> Addresses:
    """Addresses of real servers. Their state is shared by all tests: take `database` and `topics` too."""
    return servers.addresses


@pytest.fixture
async def database(stack: Addresses) -> AsyncIterator[str]:
    """The address of an empty database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(stack.postgres_dsn)
    await connection.execute(f"create database {name}")
    yield f"{stack.postgres_dsn.rpartition('/')[0]}/{name}"
    if connection.is_closed():  # the test killed the server meanwhile
        connection = await asyncpg.connect(stack.postgres_dsn)
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


@pytest.fixture
def reader_dsn(servers: Servers, database: str) -> str:
    """The address of that database for BI's role."""
    return f"{servers.bi_dsn.rpartition('/')[0]}/{database.rpartition('/')[2]}"


@pytest.fixture
async def topics(stack: Addresses) -> Addresses:
    """The five topics of the contract, empty. The name of a consumer group must be the test's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    await admin.start()
    try:
        await _delete(admin)
        await _create(admin)
    finally:
        await admin.close()
    return stack


async def _delete(admin: AIOKafkaAdminClient) -> None:
    answer = await admin.delete_topics([topic.name for topic in TOPICS])
    for _name, code, *_ in answer.topic_error_codes:
        error = for_code(code)
        if code and error is not UnknownTopicOrPartitionError:
            raise error


async def _create(admin: AIOKafkaAdminClient) -> None:
    """Create the topics, again and again while the broker still deletes those of the same name."""
    missing = {
        topic.name: NewTopic(topic.name, topic.partitions, replication_factor=1, topic_configs=topic.settings)
        for topic in TOPICS
    }
    deadline = time.monotonic() + DEADLINE_SECONDS
    while missing:
        answer = await admin.create_topics(list(missing.values()))
        for name, code, message in answer.topic_errors:
            error = for_code(code)
            if not code:
                del missing[name]
            elif error is not TopicAlreadyExistsError or time.monotonic() > deadline:
                raise error(f"{name}: {message}")
        await asyncio.sleep(LOOK_AGAIN_SECONDS if missing else 0)
