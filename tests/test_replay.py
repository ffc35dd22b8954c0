"""Versions built from the topics: equal to what the projector made of the same records, whatever came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest

from infra import MIGRATIONS
from schemas.records import Record as Event
from services import settings
from services.projector.delivery import Record
from services.projector.refold import Refold
from services.replay.build import build
from services.replay.catch_up import catch_up
from services.replay.diff import diff
from services.replay.difference import Outcome, outcome
from services.replay.job import Progress
from services.replay.runs import Candidate
from services.replay.switch import previous, switch
from services.replay.versions import Refused, retire
from services.replay.workers import Effort
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import Connection, connect, create_pool
from services.store.versions import Fed, TimelineEntry
from tests import live
from tests.comparison import differences, projected
from tests.histories import Timeline, random_timeline
from tests.replaying import many_logs, publish

pytestmark = [pytest.mark.servers, pytest.mark.slow]

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
        for batch in live.cut(Random(number), self._left[:number]):
            await live.take(self.connection, batch, self._fed)
        self._left = self._left[number:]

    async def settle(self) -> None:
        """The refold loop brings up what is stale."""
        pool = await create_pool(self.addresses.postgres_dsn, size=1)
        refold = Refold(pool, self._fed, live.offline())
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
    """A random log and two timelines."""

    def __init__(self, seed: int, logs: int) -> None:
        rng = Random(seed)
        self.events = many_logs(rng, logs, 40)
        self.records = live.on_topics(self.events)
        self.first, self.other = random_timeline(rng), random_timeline(rng)


@pytest.fixture
async def case() -> Case:
    """Twenty logs as one."""
    return Case(1, 20)


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
    part = len(case.records) * 2 // 3
    await store.take(part)
    number = await store.build(case.other)
    taken = case.events[:part]
    assert await store.differences(number, taken, case.other) == []
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
