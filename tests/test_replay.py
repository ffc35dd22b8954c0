"""Versions built from the topics: equal to what the projector made of the same records, whatever came."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import asyncpg
import pytest

from infra import MIGRATIONS
from schemas.records import Record as Event
from schemas.records import TouchRecorded
from services import settings
from services.deploy import definition_facts
from services.projector.decoding import Decoding
from services.projector.delivery import Record
from services.projector.refold import Refold
from services.registry import Registry
from services.replay.build import build
from services.replay.catch_up import catch_up
from services.replay.diff import diff
from services.replay.difference import Outcome, outcome
from services.replay.job import Progress
from services.replay.log_rebuild import log_rebuild
from services.replay.log_verify import log_verify
from services.replay.runs import Candidate
from services.replay.switch import previous, switch
from services.replay.verify import Verdict, verify
from services.replay.versions import Refused, retire
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import Connection, connect, create_pool
from services.store.versions import Fed, TimelineEntry
from tests import live
from tests.comparison import differences, projected
from tests.faults.equality import compare
from tests.fresh import drop_database
from tests.histories import Timeline, random_definition, random_timeline
from tests.replaying import earlier_schema, encoded_before, many_logs, publish, spoiled

pytestmark = [pytest.mark.servers, pytest.mark.slow]

EARLIER_TOUCH = earlier_schema("TouchRecorded", "properties")
STATES = "select journey_id, revision, events, is_stale, state from {}.journey order by journey_id"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small logs in many units and buckets."""
    monkeypatch.setattr(settings, "REPLAY_UNIT_RECORDS", 150)
    monkeypatch.setattr(settings, "REPLAY_BUCKET_RECORDS", 60)
    monkeypatch.setattr(settings, "REPLAY_ID_RECORDS", 300)
    monkeypatch.setattr(settings, "REPLAY_DIFF_JOURNEYS", 20)
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path))


class Store:
    """A database beside topics that hold more than it has taken yet."""

    def __init__(self, addresses: Addresses, connection: Connection, records: list[Record]) -> None:
        self.addresses, self.connection, self._left = addresses, connection, records
        self._fed = Fed()
        self.said: list[Progress] = []

    async def take(self, number: int) -> None:
        """The projector takes so many records more."""
        async with Registry(self.addresses.registry_url) as registry:
            for batch in live.cut(Random(number), self._left[:number]):
                await live.take(self.connection, batch, self._fed, Decoding(registry))
        self._left = self._left[number:]

    async def verify(self) -> Verdict:
        """Proof against the topics."""
        return await verify(self.addresses, self.said.append, Effort(2, 0))

    async def settle(self) -> None:
        """The refold loop brings up what is stale."""
        pool = await create_pool(self.addresses.postgres_dsn, size=1)
        async with Registry(self.addresses.registry_url) as registry:
            refold = Refold(pool, self._fed, Decoding(registry))
            while await refold.round():
                pass
        await pool.close()

    async def build(self, timeline: Timeline, *, is_trial: bool = False) -> int:
        """A version of this timeline from the topics."""
        candidate = Candidate([TimelineEntry(*entry) for entry in timeline], is_trial)
        return await build(self.addresses, candidate, self.said.append, Effort(2, 0))

    async def catch_up(self, number: int) -> None:
        """Brings a version up."""
        await catch_up(self.addresses, number, self.said.append)

    async def diff(self, number: int) -> Outcome:
        """What it changes."""
        await diff(self.addresses, number, self.said.append, Effort(1, 0))
        return await outcome(self.connection, number)

    async def differences(self, number: int, events: Sequence[Event], timeline: Timeline) -> list[str]:
        """What the version says otherwise than the pure fold."""
        rows = await live.tables(self.connection, f"v{number:04d}")
        return differences(projected(list(events), timeline), rows)

    async def states(self, number: int) -> list[tuple[object, ...]]:
        """The folded states."""
        query = STATES.format(f"v{number:04d}")
        return [tuple(row) for row in await self.connection.fetch(query)]


class Case:
    """A random log with facts about definitions, spoiled records, and some in an earlier schema."""

    def __init__(self, seed: int, earlier: int) -> None:
        rng = Random(seed)
        self.agreed = [random_definition(rng, version) for version in (1, 2)]
        facts = [fact for n, text in enumerate(self.agreed) for fact in definition_facts(text, n)]
        self.events = [*many_logs(rng, 20, 40), *facts]
        records = live.on_topics(self.events)
        for place, event in enumerate(self.events):
            if isinstance(event, TouchRecorded) and not event.properties and rng.random() < 0.2:
                value = encoded_before(event, earlier, EARLIER_TOUCH)
                records[place] = records[place]._replace(value=value)
        self.records = spoiled(rng, records)
        self.first, self.other = random_timeline(rng), random_timeline(rng)


@pytest.fixture
async def case(stack: Addresses) -> Case:
    """Twenty logs as one."""
    async with Registry(stack.registry_url) as registry:
        await registry.deploy()
        earlier = await registry.register("tests-leadlog.TouchRecorded", EARLIER_TOUCH)
    return Case(1, earlier)


@pytest.fixture
async def store(database: str, topics: Addresses, case: Case) -> AsyncIterator[Store]:
    """Two versions fed from the first record on, the first promoted; all records on the topics."""
    await publish(topics.kafka_bootstrap, case.records)
    await migrate(database, MIGRATIONS)
    connection = await connect(database)
    await live.add_versions(connection, [case.first, case.other])
    yield Store(topics._replace(postgres_dsn=database), connection, case.records)
    await connection.close()


async def test_a_version_goes_its_way_from_the_topics_to_bi_and_back(store: Store, case: Case) -> None:
    """Built while only a part was taken, it catches up, and is the version that was fed all the time: rows,
    states and revisions. Promoted and rolled back it stays so; a version that BI does not read can go."""
    await store.take(len(case.records) * 2 // 3)
    number = await store.build(case.other)
    assert {each.phase for each in store.said} == {"route", "read", "ids", "settle", "fold", "index"}
    await store.take(len(case.records) // 6)
    await store.catch_up(number)
    await store.take(len(case.records))
    await store.settle()
    assert await store.differences(number, case.events, case.other) == []
    assert await store.states(number) == await store.states(2)
    assert await store.connection.fetch("select * from ops.parked") == []

    assert (await store.diff(number)).tables
    switched = await switch(store.connection, number)
    assert (switched.before.number, switched.after.number) == (1, number)
    assert (await store.diff(2)).tables == []
    with pytest.raises(Refused, match="promoted"):
        await retire(store.addresses, number)
    assert await previous(store.connection) == 1
    await switch(store.connection, 1)
    await retire(store.addresses, number)
    activations = "select count(*) from ops.outbox where topic = 'lead.reference'"
    assert await store.connection.fetchval(activations) == len(case.first) + len(case.other)


async def test_whatever_is_changed_by_hand_is_found(store: Store, case: Case) -> None:
    """Projections are proved by building again, the log by reading the topics again: equal at first, then a
    row less, another value, a row more and altered bytes are told, each in its place."""
    await store.take(len(case.records))
    await store.settle()
    assert (await store.verify()).is_equal
    assert all(each.is_equal for each in await log_verify(store.addresses, store.said.append))

    lead = await store.connection.fetchval("select min(journey_id) from v0001.lead_state")
    await store.connection.execute(
        "update v0001.lead_state set score = score + 1 where journey_id = $1", lead
    )
    wrong = (await store.verify()).rows
    assert [(each.table, each.key, each.columns) for each in wrong] == [("lead_state", [lead], ["score"])]
    for damage, told in DAMAGES.items():
        await store.connection.execute(damage)
        checked = await log_verify(store.addresses, store.said.append)
        assert [each for each in checked if getattr(each, told)], damage


DAMAGES = {
    "delete from log.event where event_id = (select max(event_id) from log.event where body is not null)": (
        "missing"
    ),
    "update log.event set body = body || 'x' where event_id = (select min(event_id) from log.event "
    "join log.subject using (subject_id) where body is not null and erased_at is null)": "altered",
    "delete from log.reject where ctid = (select min(ctid) from log.reject)": "rejects_missing",
    "insert into log.reject select topic, partition, 0, reason, message from log.reject "
    "on conflict do nothing": "rejects_foreign",
}
"""What is done to the log, and what is said of it."""


async def test_an_empty_postgres_is_made_again_from_the_topics(store: Store, case: Case) -> None:
    """Log, versions and the definition in force come back in an empty database by one command, the one before
    too, so that a rollback stays possible. A database that has a promoted version is refused."""
    await store.take(len(case.records))
    await store.settle()
    with pytest.raises(Refused, match="promoted"):
        await log_rebuild(store.addresses, MIGRATIONS, store.said.append, Effort(2, 0))
    async with empty_database(store.addresses) as addresses:
        numbers = await log_rebuild(addresses, MIGRATIONS, store.said.append, Effort(2, 0))
        other = await connect(addresses.postgres_dsn)
        rebuilt = Store(addresses, other, [])
        for number, text in zip(numbers, case.agreed, strict=True):
            assert await rebuilt.differences(number, case.events, [(None, text)]) == []
        assert await other.fetchval("select label from ops.version where status = 'promoted'") == "d@2"
        assert await other.fetchval("select count(*) from ops.outbox") == 0
        assert [
            line for each in await compare(store.connection, other, ["log"]) for line in each.differences
        ] == []
        await switch(other, numbers[0])
        await other.close()


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
