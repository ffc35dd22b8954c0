"""Empty topics, and databases that go away again."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from schemas.topics import TOPICS, Topic
from services.broker import ensure_topics
from services.settings import Addresses
from tests.servers import until


async def empty_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> None:
    """Makes topics anew: the five of the contract, unless others are named."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await _delete(admin, [topic.name for topic in topics])
    finally:
        await admin.close()
    await ensure_topics(bootstrap, topics)


async def drop_database(connection: "asyncpg.Connection[Any]", name: str) -> None:
    """Autovacuum gives way to a plain drop, but may not be forced; sessions that a test left over must be."""
    try:
        await connection.execute(f"drop database if exists {name}")
    except asyncpg.ObjectInUseError:
        await connection.execute(f"drop database {name} with (force)")


async def _delete(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Delete the topics and wait until the broker knows; before that it still serves the old ones."""
    answer = await admin.delete_topics(names)
    for _name, code, *_ in answer.topic_error_codes:
        error = for_code(code)
        if code and error is not UnknownTopicOrPartitionError:
            raise error
    await until(partial(_gone, admin, names), "the old topics are still there")


async def _gone(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    told = {about["topic"]: for_code(about["error_code"]) for about in await admin.describe_topics(names)}
    return all(told[name] is UnknownTopicOrPartitionError for name in names)


@asynccontextmanager
async def empty_database(addresses: Addresses) -> AsyncIterator[Addresses]:
    """A second database on the same servers."""
    server = await asyncpg.connect(addresses.postgres_dsn)
    name = f"test_{uuid.uuid4().hex}"
    await server.execute(f"create database {name}")
    try:
        yield addresses._replace(postgres_dsn=f"{addresses.postgres_dsn.rpartition('/')[0]}/{name}")
    finally:
        await drop_database(server, name)
        await server.close()
