"""Verifications: by themselves when it is time, once each, giving way, and naming what is wrong and why.

Promises: `leadlog run verifier` and `leadlog replay verify` on real servers. That what was built is right is
guarded in `test_replay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services import settings
from services.replay.verify import last
from services.replay.versions import Refused
from services.settings import Addresses
from services.verifier import process
from tests.replaying import SMALL, Case, Commands, Store, prepared, random_case
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

OUTCOMES = "select rows_differing, states_differing from ops.verification order by verification_id"
TIME_PASSES = """
update ops.version set created_at = created_at - interval '1 day';
update ops.verification set finished_at = finished_at - interval '1 day'
"""
AT_WORK = "select exists (select from ops.version where is_verification)"
DAMAGES = (
    """
    with was as (select * from v0001.lead_state where stage_entered_event_id is not null order by 1 limit 1)
    update v0001.lead_state set stage = 'Nowhere' from was where lead_state.journey_id = was.journey_id
    returning format('lead_state %s: stage is Nowhere, the topics say %s (since event %s)',
      was.journey_id, was.stage, was.stage_entered_event_id)
    """,
    """
    delete from v0001.handoff where ctid = (select min(ctid) from v0001.handoff)
    returning format('handoff %s %s: BI lacks it (since event %s)',
      journey_id, opened_event_id, opened_event_id)
    """,
    """
    with removed as (
      select event.event_id, min(naming.event_id) as by_event_id
      from log.event join log.naming on target_event_id = event.event_id
      where status = 'removed' group by 1 order by 1 limit 1
    )
    insert into v0001.touch
    select (jsonb_populate_record(null::v0001.touch,
      to_jsonb(model) || jsonb_build_object('event_id', removed.event_id))).*
    from removed, (select * from v0001.touch order by event_id limit 1) as model
    returning format('touch %s: BI reads it, the topics do not say it (see event %s)',
      event_id, (select by_event_id from removed))
    """,
    """
    insert into v0001.stage_visit
    select (jsonb_populate_record(null::v0001.stage_visit,
      to_jsonb(model) || '{"visit_no": 99, "entered_event_id": "made-up"}')).*
    from (select * from v0001.stage_visit order by journey_id desc limit 1) as model
    returning format('stage_visit %s made-up %s: BI reads it, the topics do not say it (%s)',
      journey_id, stage, 'no event of the log makes it')
    """,
)
"""What is done to the tables that BI reads, and what is said of it."""


@pytest.fixture
async def case(stack: Addresses) -> Case:
    """Twenty logs as one."""
    return await random_case(stack, seed=3)


@pytest.fixture
async def store(
    database: str, topics: Addresses, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Store]:
    """A log of which everything is folded."""
    for name, value in SMALL.items():
        monkeypatch.setattr(settings, name, value)
    monkeypatch.setenv("LEADLOG_STATE", str(tmp_path))
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(process, "AGAIN_SECONDS", 0.1)
    async with prepared(case, topics._replace(postgres_dsn=database)) as store:
        await store.take(len(case.records))
        await store.settle()
        yield store


@asynccontextmanager
async def verifying(addresses: Addresses, copies: int) -> AsyncIterator[None]:
    """Verifiers, meanwhile."""
    tasks = [asyncio.create_task(process.run(addresses)) for _ in range(copies)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def outcomes(store: Store, number: int) -> list[tuple[int, int]]:
    """The verifications as soon as there are so many: rows and states that differ."""

    async def are_there() -> bool:
        return len(await store.connection.fetch(OUTCOMES)) == number

    await until(are_there, f"no {number} verifications")
    return [tuple(row) for row in await store.connection.fetch(OUTCOMES)]


def differing(kind: str) -> float | None:
    """What Prometheus would read."""
    return REGISTRY.get_sample_value("leadlog_verifier_last_differing", {"kind": kind})


async def test_it_verifies_when_it_is_time_once_and_gives_way(store: Store, case: Case) -> None:
    """Of two verifiers one works, and makes room for a build at once; when the outcome is there it is not
    time again, whoever starts anew. A day later a planted difference is kept and measured."""
    async with verifying(store.addresses, copies=2):
        assert not (await process.standing(store.connection)).is_due
        await store.connection.execute(TIME_PASSES)
        await until(lambda: store.connection.fetchval(AT_WORK), "no verification began")
        number = await store.build(case.other)
        assert await store.connection.fetch(OUTCOMES) == []
        assert await outcomes(store, 1) == [(0, 0)]
    assert await store.connection.fetchval("select max(version_no) from ops.version") == number
    assert not (await process.standing(store.connection)).is_due
    lead = await store.connection.fetchval("select min(journey_id) from v0001.lead_state")
    await store.connection.execute("update v0001.lead_state set score = -1 where journey_id = $1", lead)
    await store.connection.execute(TIME_PASSES)
    async with verifying(store.addresses, copies=2):
        assert await outcomes(store, 2) == [(0, 0), (1, 0)]
        await until(lambda: asyncio.sleep(0, differing("row") == 1), "no metric says so")
    assert differing("state") == 0
    found = await last(store.connection)
    assert found is not None
    assert [(each.key, each.columns) for each in found.verdict.differences.rows] == [([lead], ["score"])]


async def test_other_rules_meanwhile_are_no_alarm(store: Store) -> None:
    """What was built by rules that count no longer is not compared, and nothing is left of it."""
    verification = asyncio.create_task(store.verify())
    await until(lambda: store.connection.fetchval(AT_WORK), "no verification began")
    await store.connection.execute("update log.reference_revision set revision = revision + 1")
    with pytest.raises(Refused, match="verify again"):
        await verification
    assert await store.connection.fetch(OUTCOMES) == []
    assert not await store.connection.fetchval(AT_WORK)


async def test_a_killed_one_goes_on_and_names_the_event_behind_each_row(store: Store, tmp_path: Path) -> None:
    """A wrong value, a row less, a row of a retracted event and one of no event at all are each told with the
    event that explains them, by a verification that was killed in between."""
    expected = [await store.connection.fetchval(damage) for damage in DAMAGES]
    assert None not in expected
    commands = Commands(store.addresses, tmp_path)
    await commands.until("fold", "verify")
    await commands.until("diff", "verify")
    code, said = await commands.finished("verify")
    assert (code, "index " in said) == (1, False)  # what was built is not built again
    assert [each for each in expected if each not in said.splitlines()] == []
    code, shown = await commands.finished("verify", "--show")
    assert (code, [each for each in expected if each not in shown.splitlines()]) == (1, [])
    assert "leadlog replay verify --show" in (await commands.finished("status"))[1]
