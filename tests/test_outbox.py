"""The outbox on a real Postgres and a real broker: one worker sends, in order, whatever is taken out or left
meanwhile."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from infra import MIGRATIONS
from schemas.topics import DERIVED
from services.broker import start_producer
from services.producing import submit
from services.projector import outbox
from services.projector.outbox import Outbox
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.outbox import Message, leave, unsay
from services.store.pool import create_pool
from tests.reading import everything

pytestmark = pytest.mark.servers


@pytest.fixture
async def pool(database: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """A migrated database."""
    await migrate(database, MIGRATIONS)
    pool = await create_pool(database, size=4)
    yield pool
    await pool.close()


@pytest.fixture
async def producer(topics: Addresses) -> AsyncIterator[AIOKafkaProducer]:
    """A producer to the empty topics."""
    producer = await start_producer(topics.kafka_bootstrap)
    yield producer
    await producer.stop()


def messages(*ids: str) -> list[Message]:
    """Messages of one journey."""
    return [Message(DERIVED, id, b"crm:1", b"value", {}) for id in ids]


async def test_what_is_said_again_while_it_is_sent_comes_after_what_took_it_back(
    pool: "asyncpg.Pool[Any]", producer: AIOKafkaProducer, topics: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an outage of Kafka a breach is taken back and comes again: it was dropped, and `withdrawn` was
    the last that anybody heard of a clock that was breached."""

    async def meanwhile(*arguments: Any) -> Any:
        async with pool.acquire() as connection:
            await unsay(connection, ["breached", "withdrawn"])
            await leave(connection, messages("withdrawn"))
            await unsay(connection, ["breached", "withdrawn"])
            await leave(connection, messages("withdrawn", "breached"))
        return await submit(*arguments)

    sender = Outbox(pool, topics.kafka_bootstrap)
    async with pool.acquire() as connection:
        await leave(connection, messages("breached"))
    with monkeypatch.context() as outage:
        outage.setattr(outbox, "submit", meanwhile)
        assert await sender.send_some(producer) == 1
    assert await sender.send_some(producer) == 2
    sent = [dict(record.headers)["ce_id"] for record in await everything(topics, [DERIVED])]
    assert sent == [b"breached", b"withdrawn", b"breached"]
    assert await pool.fetchval("select count(*) from ops.outbox") == 0


async def test_from_an_outbox_that_was_empty_for_long_thousands_are_taken_out(
    pool: "asyncpg.Pool[Any]", producer: AIOKafkaProducer, topics: Addresses
) -> None:
    """What Postgres had planned for no rows was kept for 30,000, and took minutes."""
    ids = [str(number) for number in range(10_000)]
    async with pool.acquire() as connection:
        await connection.execute("set statement_timeout = '5s'")
        await connection.execute("vacuum analyze ops.outbox")
        for _ in range(10):
            await unsay(connection, ids[:1])
        await leave(connection, messages(*ids))
        await unsay(connection, ids[1_000:])
    sender = Outbox(pool, topics.kafka_bootstrap)
    assert [await sender.send_some(producer) for _ in range(3)] == [500, 500, 0]


async def test_two_workers_do_not_overtake_each_other(
    pool: "asyncpg.Pool[Any]", producer: AIOKafkaProducer, topics: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sent what comes after the first 500 while the first still waited for Kafka."""
    monkeypatch.setattr(outbox, "BATCH", 2)
    one, other = Outbox(pool, topics.kafka_bootstrap), Outbox(pool, topics.kafka_bootstrap)

    async def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(outbox, "submit", submit)
        assert await other.send_some(producer) == 0
        return await submit(*arguments)

    async with pool.acquire() as connection:
        await leave(connection, messages("a", "b", "c"))
    monkeypatch.setattr(outbox, "submit", meanwhile)
    assert await one.send_some(producer) == 2
    assert await other.send_some(producer) == 1
    sent = [dict(record.headers)["ce_id"] for record in await everything(topics, [DERIVED])]
    assert sent == [b"a", b"b", b"c"]
