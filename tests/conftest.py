"""Fixtures that give tests real servers, fresh databases and empty topics."""

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from services.settings import Addresses
from services.store.pool import connect
from tests.alerting import Scene
from tests.door import Opened, open_door
from tests.fresh import drop_database, empty_topics
from tests.servers import LocalServers, RunningServers, Servers, begin


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
def local(servers: Servers) -> Iterator[RunningServers]:
    """A stack whose processes can be weighed: that of the run, unless it lives in containers."""
    if isinstance(servers, RunningServers):
        yield servers
        return
    own = LocalServers()
    yield own
    own.close()


@pytest.fixture
async def database(stack: Addresses) -> AsyncIterator[str]:
    """The address of an empty database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(stack.postgres_dsn)
    await connection.execute(f"create database {name}")
    yield f"{stack.postgres_dsn.rpartition('/')[0]}/{name}"
    if connection.is_closed():  # the test killed the server meanwhile
        connection = await asyncpg.connect(stack.postgres_dsn)
    await drop_database(connection, name)
    await connection.close()


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    """That database with the policy `review`, and the clock at the test's will."""
    connection = await connect(database)
    scene = Scene(connection)
    await scene.begin(database)
    yield scene
    await connection.close()


@pytest.fixture(scope="module")
def opened(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The HTTP door of a module on empty topics, with a database and keys of its own."""
    with open_door(stack, tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture
def reader_dsn(servers: Servers, database: str) -> str:
    """The address of that database for BI's role."""
    return f"{servers.bi_dsn.rpartition('/')[0]}/{database.rpartition('/')[2]}"


@pytest.fixture
async def topics(stack: Addresses) -> Addresses:
    """The five topics of the contract, empty. The name of a consumer group must be the test's own."""
    await empty_topics(stack.kafka_bootstrap)
    return stack
