"""The projector's transaction on a real Postgres: whatever is cut, repeated, parked, merged, erased or raced,
the rows are those of the pure fold."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from infra import MIGRATIONS
from projections import journey
from projections.history import History
from projections.journey import JourneyState
from projections.rules import Rules
from schemas import derived
from schemas import records as r
from schemas.wire import MAGIC, PREFIX
from services import settings
from services.projector import calendars, fold
from services.projector import refold as refold_loop
from services.projector.batch import Batch
from services.projector.delivery import OffsetGap, Record
from services.projector.handler import Projector
from services.projector.log import Grown
from services.projector.refold import Refold
from services.settings import Addresses
from services.store.calendars import YEAR
from services.store.feeding import Fed, Version
from services.store.locks import JOURNEYS, stop_feeding
from services.store.migrate import migrate
from services.store.pool import create_pool
from services.store.versions import MARK_STALE, code_version, count_stale, promote
from services.wait import Behind, Left
from tests import given as spec
from tests import live
from tests.comparison import differences, projected
from tests.feeding import commands_on
from tests.histories import Timeline, random_case, random_timeline
from tests.servers import until

pytestmark = pytest.mark.servers

HOUSE: Timeline = [(None, spec.DEFINITION)]
OTHER: Timeline = [(None, spec.DEFINITION.replace("definition_id: house", "definition_id: other"))]
WRONGLY_JOINED = """
select subject_id from log.subject one
where is_joined <>
  exists (select from log.subject where journey_id = one.journey_id and subject_id <> one.subject_id)
"""
CASES = 25
CONCURRENT_CASES = 8
ROUNDS = 50
"""Rounds of the refold loop after which it should long have ended."""
SECONDS = 60.0


class Store:
    """A migrated database, fed by hand."""

    def __init__(self, dsn: str, pool: "asyncpg.Pool[Any]") -> None:
        self.dsn = dsn
        self.pool = pool
        self.fed = Fed()
        self.schemas: list[str] = []
        self.timelines: Sequence[Timeline] = ()

    async def begin(self, *timelines: Timeline) -> None:
        """An empty log with a version for each timeline, the first promoted."""
        self.fed, self.timelines = Fed(), timelines
        async with self.pool.acquire() as connection:
            await live.clear(connection)
            self.schemas = await live.add_versions(connection, timelines)

    async def take(self, batch: Sequence[Record]) -> None:
        """One batch."""
        async with self.pool.acquire() as connection:
            await live.take(connection, batch, self.fed)

    async def settle(self) -> None:
        """Lets the refold loop bring up what is stale."""
        refold = Refold(self.pool, self.fed, live.offline())
        for _ in range(ROUNDS):
            if not await refold.round():
                return
        raise AssertionError("the refold loop does not end")

    async def differences(self, events: Sequence[r.Record]) -> list[str]:
        """What every version says otherwise than the pure fold of these events."""
        found = []
        async with self.pool.acquire() as connection:
            for schema, timeline in zip(self.schemas, self.timelines, strict=True):
                rows = await live.tables(connection, schema)
                found += [f"{schema} {line}" for line in differences(projected(list(events), timeline), rows)]
        return found

    async def fetch(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return [tuple(row) for row in await self.pool.fetch(query, *arguments)]

    async def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables that the projector writes."""
        tables = await self.fetch(
            "select schemaname || '.' || tablename from pg_tables where schemaname = 'log' "
            "or schemaname ~ '^v[0-9]' or tablename in ('outbox', 'parked')"
        )
        return {name: await self.fetch(f"select * from {name} t order by t::text") for (name,) in tables}


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store without a version."""
    await migrate(database, MIGRATIONS)
    pool = await create_pool(database, size=4)
    yield Store(database, pool)
    await pool.close()


@pytest.mark.slow
async def test_random_logs_in_random_cuts_give_the_rows_of_the_pure_fold(store: Store) -> None:
    """Two versions of different definitions are fed at once; the log comes in batches of any size."""
    for seed in range(CASES):
        rng = Random(seed)
        events, timeline = random_case(seed, rng.choice([5, 15, 30, 60]))
        await store.begin(timeline, random_timeline(rng))
        for batch in live.cut(rng, live.on_topics(events)):
            await store.take(batch)
        await store.settle()
        assert await store.differences(events) == [], f"seed {seed}"
        assert await store.fetch("select error from ops.parked") == []
        assert await store.fetch(WRONGLY_JOINED) == []


@pytest.mark.slow
async def test_what_is_stored_already_changes_nothing_when_it_comes_again(store: Store) -> None:
    """A worker reads again from any place that was stored; batches may reach into what is new."""
    for seed in range(4):
        rng = Random(seed)
        events, timeline = random_case(seed, 40)
        records = live.on_topics(events)
        await store.begin(timeline, random_timeline(rng))
        half = len(records) // 2
        for batch in live.cut(rng, records[:half]):
            await store.take(batch)
        before = await store.content()
        again = rng.randrange(half + 1)
        for batch in live.cut(rng, records[again:half]):
            await store.take(batch)
        assert await store.content() == before, f"seed {seed}"
        await store.take(records[again:])
        await store.settle()
        assert await store.differences(events) == [], f"seed {seed}"


async def test_a_gap_of_offsets_is_an_error_and_stores_nothing(store: Store) -> None:
    """One missing record stops the worker; the other partitions of that batch wait too."""
    await store.begin(HOUSE)
    records = live.on_topics([spec.touch("mon 09:00"), spec.touch("mon 10:00"), spec.touch("mon 11:00")])
    elsewhere = live.on_topics([spec.linked("mon 09:00", "web:1")])
    await store.take(records[:1])
    before = await store.content()
    with pytest.raises(OffsetGap):
        await store.take([records[2], *elsewhere])
    assert await store.content() == before


def raising(monkeypatch: pytest.MonkeyPatch, label: str, journey_id: str) -> None:
    """Plants a defect into the fold: one version cannot fold one journey."""
    sound = journey.step

    def step(state: journey.JourneyState, event: r.Record, rules: Rules) -> None:
        if rules.label == label and state.journey_id == journey_id:
            raise ZeroDivisionError("planted")
        sound(state, event, rules)

    monkeypatch.setattr(journey, "step", step)


async def test_a_fold_that_raises_parks_one_journey_of_one_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other version and the other journeys go on; what was folded before stays; the log has it all."""
    await store.begin(HOUSE, OTHER)
    first = [spec.touch("mon 09:00"), spec.touch("mon 09:00", subject="crm:2", id="other lead")]
    later = [spec.demo("mon 10:00"), spec.demo("mon 10:00", subject="crm:2", id="other demo")]
    records = live.on_topics(first + later)
    await store.take(records[:2])
    with monkeypatch.context() as defect:
        raising(defect, "other@1", "crm:1")
        await store.take(records[2:])
        await store.settle()
    assert await store.fetch("select version_no, journey_id, attempts from ops.parked") == [(2, "crm:1", 1)]
    stages = "select stage from {}.lead_state order by journey_id"
    assert await store.fetch(stages.format("v0001")) == [("MQL",), ("MQL",)]
    assert await store.fetch(stages.format("v0002")) == [("Visitor",), ("MQL",)]
    assert await store.fetch("select count(*) from log.event") == [(4,)]


async def test_the_next_event_tries_a_parked_journey_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the defect lasts attempts are counted; once it is gone the next event brings the journey up."""
    await store.begin(HOUSE, OTHER)
    events = [
        spec.touch("mon 09:00"),
        spec.demo("mon 10:00"),
        spec.touch("mon 11:00"),
        spec.touch("tue 11:00"),
    ]
    records = live.on_topics(events)
    await store.take(records[:1])
    with monkeypatch.context() as defect:
        raising(defect, "other@1", "crm:1")
        await store.take(records[1:2])
        await store.take(records[2:3])
    assert await store.fetch("select attempts from ops.parked") == [(2,)]
    await store.take(records[3:])
    assert await store.fetch("select * from ops.parked") == []
    assert await store.differences(events) == []


async def test_a_merge_tries_a_parked_journey_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journey that a parked one becomes part of has its events, and nothing stays parked."""
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [
        spec.touch("mon 09:00"),
        spec.demo("mon 10:00"),
        spec.linked("mon 11:00", "crm:0"),
    ]
    records = live.on_topics(events)
    await store.take(records[:1])
    with monkeypatch.context() as defect:
        raising(defect, "other@1", "crm:1")
        await store.take(records[1:2])
    await store.take(records[2:])
    assert await store.fetch("select * from ops.parked") == []
    assert await store.differences(events) == []


BIGGEST = 2**63 - 1
ONE_MODEL = spec.DEFINITION.partition("attribution:")[0] + "attribution: {models: [{id: linear}]}"
TOUCHES = [spec.touch("mon 09:00", id=f"touch {number}") for number in range(8)]
WON = spec.won("mon 10:00", BIGGEST)
MORE = spec.adjusted("mon 12:00", BIGGEST, id="wrong")


@pytest.mark.parametrize(
    ("definition", "events"),
    [
        (spec.DEFINITION, [WON, spec.won("mon 11:00", BIGGEST, "b", id="wrong")]),
        (spec.DEFINITION, [WON, spec.adjusted("mon 11:00", BIGGEST), MORE]),
        (ONE_MODEL, [*TOUCHES, WON, MORE, spec.reopened("mon 13:00")]),
    ],
    ids=["of two deals", "of a deal", "in the state alone"],
)
async def test_a_sum_beyond_64_bits_parks_its_journey_alone(
    store: Store, definition: str, events: list[r.Record]
) -> None:
    """One that is in no row held up the whole batch, again and again. Without the wrong event all is well."""
    await store.begin([(None, definition)])
    retraction = spec.retracted("tue 09:00", "wrong")
    records = live.on_topics([spec.touch("mon 09:00", subject="crm:2", id="other"), *events, retraction])
    await store.take(records[:-1])
    await store.pool.execute(MARK_STALE.format(schema="v0001"), ["crm:1"])
    await store.settle()
    assert await store.fetch("select journey_id, attempts from ops.parked") == [("crm:1", 2)]
    assert await store.fetch("select journey_id from v0001.lead_state") == [("crm:2",)]
    await store.take(records[-1:])
    assert await store.fetch("select * from ops.parked") == []


async def test_a_retraction_of_a_reference_fact_makes_no_lead_of_it(store: Store) -> None:
    """The campaign's id became a lead in its lowest stage, which a build from the topics did not have."""
    await store.begin(HOUSE)
    campaign = r.CampaignScheduled(
        **spec.envelope("campaign", "mon 09:00", {"subject_id": "cmp", "event_id": "scheduled"}),
        campaign_id="cmp",
        name="Campaign",
        channel="email",
        starts_at=spec.at("mon 09:00"),
    )
    events: list[r.Record] = [campaign, spec.retracted("mon 10:00", "scheduled", subject="cmp")]
    await store.take(live.on_topics(events))
    await store.settle()
    assert await store.fetch("select * from v0001.lead_state") == []
    assert await store.fetch("select journey_id, code from v0001.fault") == [("cmp", "not_retractable")]
    assert await store.differences(events) == []


async def test_rules_are_those_of_the_database_that_is_there(store: Store) -> None:
    """A database that was emptied and filled again has the same numbers: its rows came from the old rules."""
    await store.begin(HOUSE)
    fed, event = store.fed, spec.demo("mon 09:00")
    await store.take(live.on_topics([event]))
    await store.begin(OTHER)
    store.fed = fed
    await store.take(live.on_topics([event]))
    assert await store.differences([event]) == []


@pytest.mark.parametrize("longest", [fold.LONG_JOURNEY_EVENTS, 1], ids=["by the batch", "by the loop"])
@pytest.mark.parametrize("tries_again", ["the next event", "by hand", "by hand, the part"])
async def test_a_merge_whose_fold_raises_leaves_what_was_stored_of_every_part(
    store: Store, monkeypatch: pytest.MonkeyPatch, tries_again: str, longest: int
) -> None:
    """The rows of the journey that became part of the parked one went away, and its alert was taken back."""
    monkeypatch.setattr(fold, "LONG_JOURNEY_EVENTS", longest)
    await store.begin(HOUSE)
    events: list[r.Record] = [
        spec.touch("mon 09:00", subject="crm:0", id="other lead"),
        spec.demo("mon 10:00"),
        spec.linked("mon 11:00", "crm:0"),
        spec.touch("mon 12:00", subject="crm:0", id="later"),
    ]
    records = live.on_topics(events)
    await store.take(records[:2])
    rows = "select journey_id, stage from v0001.lead_state order by journey_id"
    before = await store.fetch(rows), await store.fetch("select * from v0001.sla_clock order by policy_id")
    assert before[0] == [("crm:0", "Visitor"), ("crm:1", "MQL")]
    with monkeypatch.context() as defect:
        raising(defect, "house@1", "crm:0")
        await store.take(records[2:3])
        await store.pool.execute(MARK_STALE.format(schema="v0001"), ["crm:0", "crm:1"])
        await store.settle()
    after = await store.fetch(rows), await store.fetch("select * from v0001.sla_clock order by policy_id")
    assert after == before
    parked = await store.fetch("select journey_id, attempts > 0 from ops.parked order by 1")
    assert parked == [("crm:0", True), ("crm:1", True)]
    if tries_again == "the next event":
        await store.take(records[3:])
        await store.settle()
    else:
        id = "crm:1" if tries_again.endswith("part") else "crm:0"
        await store.pool.execute(MARK_STALE.format(schema="v0001"), [id])
        await store.settle()
        events.pop()
    assert await store.fetch("select * from ops.parked") == []
    assert await store.fetch("select journey_id from v0001.journey") == [("crm:0",)]
    assert await store.differences(events) == []


async def test_a_fold_from_before_a_switch_concludes_nothing_and_one_after_it_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refold loop took the version that was promoted when its round began for the one that is."""
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [spec.demo("mon 09:00"), spec.demo("tue 09:00", subject="crm:2", id="second")]
    await store.take(live.on_topics(events))
    for schema in store.schemas:
        await store.pool.execute(f"delete from {schema}.stage_visit where stage_role = 'mql'")
        await store.pool.execute(MARK_STALE.format(schema=schema), ["crm:1", "crm:2"])
    await store.pool.execute("delete from ops.outbox")
    slices = refold_loop.fold_in_slices

    async def meanwhile(history: History, version: Version) -> JourneyState:
        if version.is_promoted and version.number == 1:
            async with store.pool.acquire() as connection, connection.transaction():
                await stop_feeding(connection)
                await promote(connection, 2)
        return await slices(history, version)

    monkeypatch.setattr(refold_loop, "fold_in_slices", meanwhile)
    await Refold(store.pool, store.fed, live.offline()).round()
    told = await store.fetch(
        "select value from ops.outbox where headers::jsonb ->> 'ce_type' like '%Entered'"
    )
    versions = [derived.decode("StageEntered", value).definition_version for (value,) in told]
    assert versions == ["other@1", "other@1"]
    assert await store.differences(events) == []


async def test_what_comes_after_an_upgrade_is_known_to_be_missing_in_a_version_of_the_release_before(
    store: Store,
) -> None:
    """It seemed up to date, so that a rollback to it took place, and the loop of its own release had nothing
    to do: here it brings up new, grown and merged journeys."""
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [
        *(spec.touch("mon 09:00"), spec.touch("mon 10:00", subject="crm:2", id="other")),
        *(spec.touch("mon 11:00", id="more"), spec.touch("mon 11:00", subject="crm:3", id="new")),
        spec.linked("mon 12:00", "crm:2"),
    ]
    records = live.on_topics(events)
    await store.take(records[:2])
    await store.pool.execute("update ops.version set code_version = 'other' where version_no = 2")
    await store.take(records[2:])
    async with store.pool.acquire() as connection:
        assert await count_stale(connection, "v0001", 1) == 0
        assert await count_stale(connection, "v0002", 2) > 0
    await store.pool.execute("update ops.version set code_version = $1", code_version())
    await store.settle()
    assert await store.differences(events) == []


async def test_parked_journeys_are_listed_shown_and_tried_again_by_hand(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`leadlog parked` names journey, version and error, shows the traceback; retry hands it to the refold
    loop."""
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [spec.touch("mon 09:00"), spec.demo("mon 10:00")]
    with monkeypatch.context() as defect:
        raising(defect, "other@1", "crm:1")
        await store.take(live.on_topics(events))

    async def leadlog(*arguments: str) -> str:
        result = await asyncio.to_thread(commands_on(store.dsn), "parked", *arguments)
        assert result.exit_code == 0, result.output
        return str(result.output)

    [listed] = json.loads(await leadlog("list", "--json"))
    assert (listed["version"], listed["journey_id"]) == ("v0002", "crm:1")
    assert "planted" in listed["error"]
    assert "in step" in await leadlog("show", "crm:1")
    assert (await asyncio.to_thread(commands_on(store.dsn), "parked", "show", "crm:9")).exit_code == 1
    await leadlog("retry", "crm:1")
    await store.settle()
    assert "nothing is parked" in await leadlog("list")
    assert await store.differences(events) == []


async def test_the_refold_loop_parks_one_journey_of_those_that_it_takes_up_together(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold that raises keeps none of the others of its group from being written."""
    await store.begin(HOUSE)
    events: list[r.Record] = [spec.touch("mon 09:00", id=f"t{n}", subject=f"crm:{n}") for n in range(5)]
    await store.take(live.on_topics(events))
    await store.pool.execute(MARK_STALE.format(schema="v0001"), [f"crm:{n}" for n in range(5)])
    with monkeypatch.context() as defect:
        raising(defect, "house@1", "crm:1")
        await store.settle()
    assert await store.fetch("select journey_id from ops.parked") == [("crm:1",)]
    assert await store.fetch("select count(*) from v0001.journey where is_stale") == [(0,)]
    assert await store.differences(events) == []


@pytest.mark.parametrize("value", ["a NUL \0", 2**63], ids=["refused by the server", "refused by the driver"])
async def test_data_that_postgres_refuses_parks_the_one_journey_that_it_belongs_to(
    store: Store, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """Out of a batch of twenty journeys nineteen are written; the refold loop goes on past it, too."""
    await store.begin(HOUSE)
    sound = journey.rows

    def rows(state: journey.JourneyState, rules: Rules) -> journey.Rows:
        made = sound(state, rules)
        if state.journey_id == "crm:07" and state.event_count:
            [row] = made["lead_state"]
            made["lead_state"] = [unfit(row, value)]
        return made

    events: list[r.Record] = [spec.touch("mon 09:00", id=f"t{n}", subject=f"crm:{n:02}") for n in range(20)]
    with monkeypatch.context() as defect:
        defect.setattr(journey, "rows", rows)
        await store.take(live.on_topics(events))
        assert await store.fetch("select journey_id from ops.parked") == [("crm:07",)]
        assert await store.fetch("select count(*) from v0001.lead_state") == [(19,)]
        await store.pool.execute(MARK_STALE.format(schema="v0001"), ["crm:07", "crm:08"])
        await store.settle()
    assert await store.fetch("select journey_id, attempts from ops.parked") == [("crm:07", 2)]
    await store.pool.execute(MARK_STALE.format(schema="v0001"), ["crm:07"])
    await store.settle()
    assert await store.differences(events) == []


def unfit(row: tuple[object, ...], value: object) -> tuple[object, ...]:
    """A row of lead_state with a stage or a score that cannot be stored."""
    columns = next(table.columns for table in journey.TABLES if table.name == "lead_state")
    place = columns.index("stage" if isinstance(value, str) else "score")
    return (*row[:place], value, *row[place + 1 :])


async def test_long_journeys_are_folded_again_by_the_refold_loop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When events come late a batch marks them stale and goes on; the loop brings them up."""
    monkeypatch.setattr(fold, "LONG_JOURNEY_EVENTS", 20)
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [
        spec.touch(f"mon+{n // 24} {n % 24:02}:00", id=f"t{n}", subject=("crm:1", "crm:2")[n % 4 == 0])
        for n in range(80)
    ]
    Random(1).shuffle(events)
    for batch in live.cut(Random(2), live.on_topics(events)):
        await store.take(batch)
    stale = await store.fetch("select journey_id from v0001.journey where is_stale")
    assert stale == [("crm:1",)]
    await store.settle()
    assert await store.differences(events) == []


def page_views(first: int, count: int) -> list[r.Record]:
    """Touches of one lead, an hour apart."""
    return [
        spec.touch(f"mon+{n // 24} {n % 24:02}:00", id=f"t{n:03}", subject="crm:1")
        for n in range(first, first + count)
    ]


async def test_a_long_journey_that_grows_at_its_end_is_continued_by_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never stale, so it does not keep the refold loop busy."""
    monkeypatch.setattr(fold, "LONG_JOURNEY_EVENTS", 20)
    await store.begin(HOUSE)
    events = page_views(0, 60)
    records = live.on_topics(events)
    for start in range(0, 60, 15):
        await store.take(records[start : start + 15])
        assert await store.fetch("select journey_id from v0001.journey where is_stale") == []
    assert await store.differences(events) == []


def takes_while_folding(store: Store, monkeypatch: pytest.MonkeyPatch, records: Sequence[Record]) -> None:
    """Lets a batch come after the refold loop has folded, and before it stores."""
    slices = refold_loop.fold_in_slices

    async def meanwhile(history: History, version: Version) -> JourneyState:
        state = await slices(history, version)
        await store.take(records)
        return state

    monkeypatch.setattr(refold_loop, "fold_in_slices", meanwhile)


async def test_what_comes_while_a_long_journey_is_folded_is_folded_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop catches up before it stores: a journey that gets events all the time does not stay behind."""
    for module in (fold, refold_loop):
        monkeypatch.setattr(module, "LONG_JOURNEY_EVENTS", 20)
    await store.begin(HOUSE)
    events = page_views(0, 60)
    records = live.on_topics(events)
    takes_while_folding(store, monkeypatch, records[50:])
    await store.take(records[:50])
    assert await store.fetch("select journey_id from v0001.journey where is_stale") == [("crm:1",)]
    await Refold(store.pool, store.fed, live.offline()).round()
    assert await store.fetch("select journey_id from v0001.journey where is_stale") == []
    assert await store.differences(events) == []


async def test_a_fold_that_a_batch_has_overtaken_is_not_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows went back to before the newest event, its end of a clock was taken back, and a lead erased
    meanwhile had its values again, until the loop came round."""
    await store.begin(HOUSE)
    events: list[r.Record] = [spec.demo("mon 09:00"), spec.accepted("mon 10:00", by=spec.PERSON)]
    records = live.on_topics(events)
    takes_while_folding(store, monkeypatch, records[1:])
    await store.take(records[:1])
    await store.pool.execute("update v0001.journey set reference_revision = -1")
    await Refold(store.pool, store.fed, live.offline()).round()
    assert await store.differences(events) == []


async def test_a_loop_that_others_leave_nothing_to_rests(store: Store) -> None:
    """While another worker was at a long journey it asked for what is stale all the time."""
    await store.begin(HOUSE)
    await store.take(live.on_topics([spec.touch("mon 09:00")]))
    await store.pool.execute(MARK_STALE.format(schema="v0001"), ["crm:1"])
    refold = Refold(store.pool, store.fed, live.offline())
    async with store.pool.acquire() as other:
        await other.fetch(refold_loop.LOCK, JOURNEYS, "1", ["crm:1"])
        assert await refold.round() == 0
        await other.fetch(refold_loop.UNLOCK, JOURNEYS, "1", ["crm:1"])
    assert await refold.round() == 1


async def test_a_calendar_fact_makes_every_journey_stale_until_the_loop_was_there(store: Store) -> None:
    """Business time is measured anew in both versions, also of journeys that nothing else touches."""
    await store.begin(HOUSE, OTHER)
    events: list[r.Record] = [
        spec.demo("mon 10:00", id=f"d{n}", subject=f"crm:{n}", recorded="mon 10:00") for n in range(30)
    ]
    events += [
        spec.accepted("wed 10:00", id=f"a{n}", subject=f"crm:{n}", by=spec.PERSON) for n in range(0, 30, 2)
    ]
    fact = spec.calendar("sun 00:00", {"tue": [["12:00", "13:00"]]}, id="shorter")
    fact = r.CalendarChanged(**{**as_fields(fact), "occurred_at": spec.MONDAY, "recorded_at": spec.MONDAY})
    records = live.on_topics([*events, fact])
    await store.take(records[:-1])
    before = await store.fetch("select * from v0001.sla_clock order by journey_id")
    await store.take(records[-1:])
    assert await store.differences([*events, fact]) != []
    await store.settle()
    assert await store.differences([*events, fact]) == []
    assert await store.fetch("select * from v0001.sla_clock order by journey_id") != before


async def test_open_hours_of_a_batch_that_was_rolled_back_are_forgotten(store: Store) -> None:
    """A rebalance cuts a batch of facts in another place: its rules had those of the cancelled one, under the
    same revision, and every journey was folded by them."""
    await store.begin(HOUSE)
    events: list[r.Record] = [spec.demo("mon 10:00"), spec.accepted("wed 10:00", by=spec.PERSON)]
    facts: list[r.Record] = [
        spec.calendar("mon 00:00", {day: [["12:00", "13:00"]]}, id=day, recorded="mon 00:00")
        for day in ("tue", "wed")
    ]
    records = live.on_topics([*events, *facts])
    await store.take(records[:2])
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        cancelled = await live.offline().batch(records[2:3])
        await Batch(connection, store.fed, live.offline()).apply(records[2:3], cancelled, set())
        await transaction.rollback()
    await store.take(records[2:])
    await store.settle()
    assert await store.differences([*events, *facts]) == []


async def test_waiting_ends_though_ever_more_is_published(store: Store) -> None:
    """Of what became stale, was learned or waits to be sent later than what was waited for nothing counts:
    under a steady load there was always some of it, and `leadlog wait` ended by its time limit."""
    await store.begin(HOUSE)
    touches = [spec.touch("mon 09:00"), spec.touch("mon 10:00", subject="crm:2", id="other")]
    await store.take(live.on_topics(touches))
    mark = "update v0001.journey set is_stale = journey_id = $1"
    message = "insert into ops.outbox (topic, message_id, headers) values ('lead.derived', $1, '{}')"
    learn = "update log.reference_revision set revision = revision + 1"
    left = Left({})
    async with store.pool.acquire() as connection:
        await connection.execute("delete from ops.outbox")
        await connection.execute(learn)
        await connection.execute(mark, touches[0].subject_id)
        await connection.execute(message, "first")
        assert await left.look(connection) == Behind(0, 2, 1)
        await connection.execute("update v0001.journey set reference_revision = reference_revision + 1")
        await connection.execute(learn)
        assert await left.look(connection) == Behind(0, 1, 1)
        await connection.execute(mark, "crm:2")
        await connection.execute(message, "second")
        assert await left.look(connection) == Behind(0, 0, 2)
        await connection.execute("delete from ops.outbox")
        await connection.execute(message, "third")
        assert (await left.look(connection)).nothing


async def test_calendars_are_laid_out_for_the_years_to_come_though_no_version_is_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is kept for years: of each calendar less than half of the years ahead is left."""
    await store.begin(HOUSE, OTHER)
    laid = "select schema, calendar_no, covers_until from ({}) laid order by 1, 2".format(
        " union all ".join(f"select '{name}' as schema, * from {name}.calendar" for name in store.schemas)
    )
    windows = (
        "select calendar_no, opens_at, closes_at from v0001.calendar_window "
        "where opens_at > now() - interval '1 year'"
    )
    before, hours = await store.fetch(laid), await store.fetch(windows)
    async with store.pool.acquire() as connection:
        await calendars.renew(connection, store.fed)
    assert await store.fetch(laid) == before
    monkeypatch.setattr(settings, "CALENDAR_YEARS_AHEAD", 5)
    async with store.pool.acquire() as connection:
        await calendars.renew(connection, store.fed)
    after = await store.fetch(laid)
    assert [each[:2] for each in after] == [each[:2] for each in before]
    assert all(new - old > 2 * YEAR for (*_, old), (*_, new) in zip(before, after, strict=True))
    assert set(hours) < set(await store.fetch(windows))


def as_fields(event: r.Record) -> dict[str, Any]:
    """The fields of an event."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


def apart(*groups: Sequence[r.Record]) -> list[list[Record]]:
    """Each group on a partition of its own, as two workers have them."""
    result = []
    for partition, events in enumerate(groups):
        records = live.on_topics(events)
        offsets: dict[str, int] = defaultdict(int)
        moved = []
        for each in records:
            moved.append(each._replace(partition=partition, offset=offsets[each.topic]))
            offsets[each.topic] += 1
        result.append(moved)
    return result


WAITING = """
select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


async def test_a_journey_that_grows_while_its_lock_is_waited_for_is_locked_whole(store: Store) -> None:
    """One worker merges a and b; the other, waiting for b, must see that a is part of it now."""
    await store.begin(HOUSE, OTHER)
    known: list[r.Record] = [spec.touch("mon 09:00", id=f"t {name}", subject=name) for name in "abcd"]
    merge: list[r.Record] = [
        spec.linked("mon 10:00", "b", id="ab", subject="a"),
        spec.linked("mon 10:00", "d", id="cd", subject="c"),
    ]
    meets: list[r.Record] = [
        spec.linked("mon 11:00", "c", id="bc", subject="b"),
        spec.demo("mon 12:00", id="demo", subject="b"),
    ]
    zero, one, two = apart(known, merge, meets)
    await store.take(zero)
    async with store.pool.acquire() as holder, store.pool.acquire() as observer:
        holding = holder.transaction()
        await holding.start()
        await holder.execute("select from log.subject order by subject_id for update")
        grown: list[set[str]] = []
        waiting = asyncio.create_task(take_and_note(store, two, grown))
        await until(lambda: observer.fetchval(WAITING), "nobody waits for a lock")
        await Batch(holder, store.fed, live.offline()).apply(one, await live.offline().batch(one), set())
        await holding.commit()
        await waiting
    assert grown
    assert await store.fetch("select distinct journey_id from log.subject") == [("a",)]
    await store.settle()
    assert await store.differences([*known, *merge, *meets]) == []


async def take_and_note(store: Store, batch: list[Record], grown: list[set[str]]) -> None:
    """Takes a batch and notes every start anew."""
    decoded = await live.offline().batch(batch)
    async with store.pool.acquire() as connection:
        seeds: set[str] = set()
        while True:
            try:
                async with connection.transaction():
                    await Batch(connection, store.fed, live.offline()).apply(batch, decoded, seeds)
                return
            except Grown as error:
                seeds = error.subjects
                grown.append(seeds)


FULL = """
create function log.refuse() returns trigger language plpgsql as
$$ begin raise disk_full using message = 'No space left on device'; end $$;
create trigger refuse before update on log.position for each row execute function log.refuse()
"""


async def test_a_batch_that_a_full_disk_refuses_is_waited_for_and_says_why(
    store: Store, stack: Addresses
) -> None:
    """Postgres lets others in meanwhile: the worker seemed stuck, and nobody named the disk."""
    await store.begin(HOUSE)
    projector = Projector(stack._replace(postgres_dsn=store.dsn))
    await projector.start()
    await store.pool.execute(FULL)
    batch = asyncio.create_task(projector.apply(live.on_topics([spec.touch("mon 09:00")])))

    async def is_named() -> bool:
        return "No space left on device" in projector.away().get("postgres", "")

    await until(is_named, "nobody names the disk")
    await store.pool.execute("drop trigger refuse on log.position")
    await batch
    assert projector.away() == {}
    await projector.stop()


@pytest.mark.parametrize("server", ["postgres", "registry"])
async def test_a_worker_waits_for_nobody_when_a_rebalance_has_taken_its_batch(
    store: Store, stack: Addresses, server: str
) -> None:
    """It was not ready and excused from being stuck for good, if no later batch needed that server."""
    await store.begin(HOUSE)
    projector = Projector(stack._replace(postgres_dsn=store.dsn, registry_url="http://127.0.0.1:9"))
    await projector.start()
    await store.pool.execute(FULL)
    [record] = live.on_topics([spec.touch("mon 09:00")])
    if server == "registry":
        record = record._replace(value=PREFIX.pack(MAGIC, 2**31 - 1) + (record.value or b"")[PREFIX.size :])
    batch = asyncio.create_task(projector.apply([record]))

    async def is_named() -> bool:
        return server in projector.away()

    await until(is_named, f"{server} is not waited for")
    batch.cancel()
    await asyncio.wait({batch})
    assert projector.away() == {}
    await projector.stop()


@pytest.mark.slow
async def test_two_workers_whose_batches_share_journeys_come_to_the_rows_of_one(
    store: Store, topics: Addresses
) -> None:
    """Links, retractions and copies cross between them in every order: nobody waits for ever, nothing is
    lost."""
    for seed in range(CONCURRENT_CASES):
        rng = Random(seed)
        events, timeline = random_case(seed, 80)
        await store.begin(timeline, random_timeline(rng))
        owner = {event.subject_id: rng.randrange(2) for event in events}
        groups = [[each for each in events if owner[each.subject_id] == worker] for worker in (0, 1)]
        projectors = [Projector(topics._replace(postgres_dsn=store.dsn)) for _ in groups]
        await asyncio.gather(*(projector.start() for projector in projectors))
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(
                *(
                    work_off(projector, live.cut(rng, records))
                    for projector, records in zip(projectors, apart(*groups), strict=True)
                )
            )
        await asyncio.gather(*(projector.stop() for projector in projectors))
        await store.settle()
        assert await store.differences(events) == [], f"seed {seed}"


async def work_off(projector: Projector, batches: list[list[Record]]) -> None:
    """One worker's share."""
    for batch in batches:
        await projector.apply(batch)


STATISTICS = """
select tablename, attname from pg_stats
where schemaname in ('log', 'ops') and attname in ('body', 'value', 'message')
"""
"""Columns with what somebody sent, of which Postgres keeps values apart from the table."""
SECRETS = ("Jane Roe", "jane@example.com", "+49 170 1234567")


def personal(when: str, **envelope: Any) -> list[r.Record]:
    """Events with something personal in every place where it may be."""

    def named(kind: str) -> dict[str, Any]:
        return {**envelope, "id": f"{kind} {when} {envelope}"}

    jane, mail, phone = SECRETS
    return [
        spec.touch(when, **named("touch"), url=f"https://example.com/?m={mail}", properties={"name": jane}),
        spec.attribute(when, "email", mail, **named("attribute")),
        spec.moved(when, "Known", **named("moved"), note=f"call {phone}"),
        r.MeetingHeld(
            **spec.envelope("meeting", when, named("meeting")),
            meeting_id="m1",
            kind="demo",
            attendees=[jane],
            summary=f"{jane} liked it",
        ),
    ]


def proposal(when: str) -> r.DefinitionProposed:
    """The definition on the log, which says that `email` is personal."""
    fields = {"definition_id": "house", "version": 1, "body": spec.DEFINITION, "rationale": "known"}
    return r.DefinitionProposed(**spec.envelope("proposed", when, {"subject": "house", **fields}))


async def places_of(store: Store, secrets: Sequence[str]) -> list[tuple[str, str]]:
    """Columns of the log, the versions and the outbox, in which a secret stands."""
    columns = await store.fetch(
        "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns "
        "where table_schema in ('log', 'ops') or table_schema ~ '^v[0-9]'"
    )
    found = []
    for table, column, kind in columns:
        value = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
        texts = [row[0] or "" for row in await store.fetch(f"select {value} from {table}")]
        if any(secret in text for secret in secrets for text in texts):
            found.append((table, column))
    return found


async def test_an_erasure_leaves_no_personal_value_in_any_table(store: Store) -> None:
    """Of events before and after it, of copies that lost, of what was retracted; the events still count.
    Postgres' statistics kept whole bodies."""
    await store.begin(HOUSE, OTHER)
    before = [*personal("mon 09:00"), spec.retracted("mon 10:00", "touch mon 09:00 {}")]
    conflicting = [
        spec.touch(
            "mon 09:00", id="touch mon 09:00 {}", recorded="tue 09:00", url="https://example.com/Jane Roe"
        )
    ]
    linked = [spec.linked("mon 12:00", "web:1"), *personal("mon 13:00", subject="web:1")]
    events = [proposal("sun 00:00"), *before, *conflicting, *linked]
    erasures = [spec.erased("tue 12:00"), spec.erased("tue 12:00", subject="web:1", id="also erased")]
    after = [*personal("wed 09:00"), *personal("wed 09:00", subject="web:1")]
    records = live.on_topics([*events, *erasures, *after])
    await store.take(records[: len(events)])
    assert ("log.event", "body") in await places_of(store, SECRETS)
    await store.pool.execute("analyze")
    assert await store.fetch(STATISTICS) == []
    await store.take(records[len(events) : len(events) + 2])
    assert await places_of(store, SECRETS) == []
    for record in records[len(events) + 2 :]:
        await store.take([record])
    assert await places_of(store, SECRETS) == []
    await store.settle()
    assert await store.fetch("select count(*) from log.event") == [(len(records) - 1,)]
    assert await store.differences([*events, *erasures, *after]) == []


async def test_an_erasure_leaves_others_alone(store: Store) -> None:
    """The other subject of the same person keeps its values: it was not asked to be forgotten."""
    await store.begin(HOUSE)
    events = [
        *personal("mon 09:00"),
        spec.linked("mon 12:00", "web:1"),
        spec.erased("tue 12:00", subject="web:1"),
    ]
    await store.take(live.on_topics(events))
    assert await places_of(store, SECRETS) == [("log.event", "body")]


async def test_an_event_of_another_subject_continues_the_journey_of_an_erased_one(store: Store) -> None:
    """Nothing of the erased is new then: its events were read and its journey was folded again, and every
    proposed definition parsed, for each such event."""
    await store.begin(HOUSE)
    events = [
        *personal("mon 09:00"),
        spec.linked("mon 12:00", "web:1"),
        spec.erased("tue 12:00", subject="web:1"),
    ]
    later = spec.touch("wed 09:00")
    records = live.on_topics([*events, later])
    await store.take(records[:-1])
    folded_again = refolds(store.schemas[0])
    await store.take(records[-1:])
    assert refolds(store.schemas[0]) == folded_again
    assert await store.differences([*events, later]) == []


def refolds(schema: str) -> float:
    """Journeys folded again so far, by the metric of a version."""
    return REGISTRY.get_sample_value("leadlog_projector_refolds_total", {"version": schema}) or 0


async def test_an_attribute_called_personal_after_the_erasure_goes_too(store: Store) -> None:
    """Partitions are read in any order, so the definition may come after the erasure that it is about."""
    await store.begin(HOUSE)
    events = [*personal("mon 09:00"), spec.erased("tue 12:00"), proposal("sun 00:00")]
    await store.take(live.on_topics(events[:-1]))
    await store.take(live.on_topics(events[-1:]))
    assert await places_of(store, SECRETS) == []


@pytest.mark.parametrize("parks", ["the erasure", "an event before"])
async def test_an_erasure_whose_fold_raises_leaves_nothing_personal_either(
    store: Store, monkeypatch: pytest.MonkeyPatch, parks: str
) -> None:
    """Rows of a parked journey stay as they were: under a definition that does not call it personal, the mail
    address of a lead parked by its own erasure did, too."""
    await store.begin([(None, spec.DEFINITION.replace("personal: [email]", "personal: [phone]"))])
    events = [
        proposal("sun 00:00"),
        *personal("mon 09:00"),
        spec.touch("mon 10:00"),
        spec.erased("tue 12:00"),
    ]
    records = live.on_topics(events)
    place = -1 if parks == "the erasure" else -2
    await store.take(records[:place])
    assert ("v0001.attribute_change", "value") in await places_of(store, SECRETS)
    raising(monkeypatch, "house@1", "crm:1")
    for record in records[place:]:
        await store.take([record])
    assert await store.fetch("select journey_id from ops.parked") == [("crm:1",)]
    assert await places_of(store, SECRETS) == []


async def test_a_copy_of_an_erasure_that_does_not_count_erases_too(store: Store) -> None:
    """Two contents under the id of one erasure name two subjects: in either order of arrival both are erased,
    since what the first has overwritten cannot come back."""
    events = [*personal("mon 09:00"), *personal("mon 09:00", subject="web:1")]
    copies = [
        spec.erased("tue 12:00", id="erasure"),
        spec.erased("tue 12:00", id="erasure", subject="web:1", recorded="tue 13:00"),
    ]
    seen = []
    for order in (copies, copies[::-1]):
        await store.begin(HOUSE)
        for record in live.on_topics([proposal("sun 00:00"), *events, *order]):
            await store.take([record])
        assert await places_of(store, SECRETS) == []
        assert await store.differences([*events, *order]) == []
        seen.append(await store.fetch("select subject_id, erased_at from log.subject order by subject_id"))
    assert seen[0] == seen[1]


async def test_the_longest_ids_fit_into_every_index(store: Store) -> None:
    """Ids as long as the contract allows, of characters of four bytes that do not compress: the key of
    `credit` has four of them."""
    await store.begin(HOUSE)
    rng = Random(1)

    def longest(mark: str) -> str:
        return mark + "".join(
            chr(rng.randrange(0x20000, 0x2A000)) for _ in range(r.ID_CHARACTERS - len(mark))
        )

    lead, deal = longest("crm:"), longest("deal")
    events: list[r.Record] = [
        spec.touch("mon 09:00", subject=lead, id=longest("touch")),
        spec.won("mon 10:00", deal=deal, subject=lead, id=longest("won")),
    ]
    await store.take(live.on_topics(events))
    assert await store.fetch("select error from ops.parked") == []
    assert await store.differences(events) == []
