"""Fixtures that give tests real servers, fresh databases and empty topics."""

import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from schemas.topics import TOPICS
from services.broker import ensure_topics
from services.settings import Addresses
from tests.servers import Servers, begin, until


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
    await _drop(connection, name)
    await connection.close()


async def _drop(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Autovacuum gives way to a plain drop, but may not be forced; sessions that a test left over must be."""
    try:
        await connection.execute(f"drop database {name}")
    except asyncpg.ObjectInUseError:
        await connection.execute(f"drop database {name} with (force)")


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
    finally:
        await admin.close()
    await ensure_topics(stack.kafka_bootstrap)
    return stack


async def _delete(admin: AIOKafkaAdminClient) -> None:
    """Delete the topics and wait until the broker knows; before that it still serves the old ones."""
    names = [topic.name for topic in TOPICS]
    answer = await admin.delete_topics(names)
    for _name, code, *_ in answer.topic_error_codes:
        error = for_code(code)
        if code and error is not UnknownTopicOrPartitionError:
            raise error
    await until(partial(_gone, admin, names), "the old topics are still there")


async def _gone(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    told = {about["topic"]: for_code(about["error_code"]) for about in await admin.describe_topics(names)}
    return all(told[name] is UnknownTopicOrPartitionError for name in names)
