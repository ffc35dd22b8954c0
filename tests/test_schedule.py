"""A definition that counts from a date on joins the timelines of the versions that are fed.

Guards that what the projector has then is what a fold from the beginning, and the naive reading of the rules,
have with that timeline; and that nothing counts without both approvals or after its date. What the facts
themselves come to is guarded in `test_standing`.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from projections import definition
from projections.agreement import facts
from projections.agreement.standing import DefinitionFact
from schemas import records as r
from services.replay.candidates import as_known
from services.replay.log_rebuild import in_force
from services.replay.runs import Candidate
from services.replay.versions import ready
from services.store.locks import stop_feeding
from services.store.timeline import TimelineEntry
from services.store.versions import adopt_facts, count_stale, create_version
from tests import given as spec
from tests import live, oracle, test_live
from tests.comparison import differences
from tests.feeding import commands_on
from tests.histories import DAY, MINUTE, MONDAY, Timeline, random_definition, random_log
from tests.live import let_feed
from tests.test_live import Store

pytestmark = pytest.mark.servers

CASES = 4
PERSON = r.Actor("human", "ann")
BEFORE = MONDAY - DAY
"""When the teams decide."""


store = test_live.store


def decided(text: str, valid_from: int, now: int = BEFORE) -> list[r.Record]:
    """Proposed, approved twice, scheduled."""
    agreed = definition.parse(text)
    name = (agreed.definition_id, agreed.version)
    return [
        facts.proposed(agreed, "because", PERSON, now),
        facts.approved(*name, "marketing", PERSON, now + 1),
        facts.approved(*name, "sales", PERSON, now + 2),
        facts.activated(*name, valid_from, PERSON, now + 3),
    ]


async def labels(store: Store) -> list[str]:
    """What the versions are called."""
    return [label for (label,) in await store.fetch("select label from ops.version order by version_no")]


def of_oracle(events: Sequence[r.Record], timeline: Timeline) -> dict[str, list[dict[str, Any]]]:
    """The rows by the naive reading."""
    return oracle.tables(list(events), timeline)


@pytest.mark.slow
async def test_a_scheduled_definition_is_that_of_a_timeline_from_the_beginning(store: Store) -> None:
    """Random definitions and logs, the decision anywhere among the events: live, fold and oracle agree."""
    for seed in range(CASES):
        rng = Random(seed)
        first, second, other = (random_definition(rng, number) for number in (1, 2, 1))
        date = MONDAY + rng.choice([0, 480, 1920, 3 * 1440, 6 * 1440 + 480]) * MINUTE
        events = random_log(rng, 40, "any")
        await store.begin([(None, first)], [(None, other)])
        said = decided(second, date)
        at = rng.randrange(len(events))
        for batch in live.cut(rng, live.on_topics([*events[:at], *said, *events[at:]])):
            await store.take(batch)
        await store.settle()
        store.timelines = [[(None, text), (date, second)] for text in (first, other)]
        assert await store.differences(events) == [], f"seed {seed}"
        async with store.pool.acquire() as connection:
            rows = await live.tables(connection, "v0001")
        assert differences(of_oracle(events, store.timelines[0]), rows) == [], f"seed {seed}"
        assert await labels(store) == ["d@1+d@2", "d@1+d@2"]


HOUSE = spec.DEFINITION
OTHER = HOUSE.replace("definition_id: house", "definition_id: other").replace("points: 5", "points: 6")
STRICT = HOUSE.replace("version: 1", "version: 2").replace("at_least: 1", "at_least: 2")
WEDNESDAY = spec.at("wed 00:00")
YEAR_2100 = 4_102_444_800_000_000
EVENTS: list[r.Record] = [
    spec.touch("mon 09:00", id="t1"),
    spec.demo("mon 10:00", subject="crm:2", id="early"),
    spec.demo("thu 10:00", id="late"),
]


async def test_the_past_stays_and_touches_that_the_state_forgot_count(store: Store) -> None:
    """Before its date the earlier definition decides; after it touches of before are counted anew, though
    states of the first definition keep none of them, since nothing may credit them."""
    first = HOUSE.replace("[page_view, form_submitted, content_downloaded]", "other")
    rule = "{offer_id: demo, direction: inbound, at_least: 1}"
    second = first.replace("version: 1", "version: 2").replace(rule, "{at_least: 3}")
    events: list[r.Record] = [spec.touch(when, id=when) for when in ("mon 09:00", "tue 09:00", "thu 09:00")]
    await store.begin([(None, first)])
    said = decided(second, WEDNESDAY, spec.at("tue 10:00"))
    for record in live.on_topics([*events[:2], *said, *events[2:]]):
        await store.take([record])
        await store.settle()
    entered = "select stage, entered_event_id from v0001.stage_visit where not is_inferred order by visit_no"
    assert await store.fetch(entered) == [
        ("Visitor", "mon 09:00"),
        ("Engaged", "tue 09:00"),
        ("MQL", "thu 09:00"),
    ]
    store.timelines = [[(None, first), (WEDNESDAY, second)]]
    assert await store.differences(events) == []


async def test_stages_and_open_hours_of_the_new_definition_are_laid_out(store: Store) -> None:
    """The views find the stages and the calendars of both definitions, each from its date on."""
    await store.begin([(None, HOUSE)])
    renamed = STRICT.replace("name: MQL", "name: Hot")
    for record in live.on_topics(decided(renamed, WEDNESDAY)):
        await store.take([record])
    assert await store.fetch(
        "select name, valid_from from v0001.stage where role = 'mql' order by definition_no"
    ) == [("MQL", None), ("Hot", WEDNESDAY)]
    assert await store.fetch("select count(*) > 0 from v0001.calendar where valid_from is not null") == [
        (True,)
    ]


@pytest.mark.slow
async def test_nothing_takes_effect_until_all_is_there(store: Store) -> None:
    """Proposal, both approvals and the activation: in any order, and only when the last of them is there."""
    for left_out in range(4):
        await store.begin([(None, HOUSE)])
        said = decided(STRICT, WEDNESDAY)
        records = live.on_topics([*said[:left_out], *said[left_out + 1 :], said[left_out]])
        await store.take(records[:-1])
        assert await labels(store) == ["house@1"]
        await store.take(records[-1:])
        assert await labels(store) == ["house@1+house@2"]


async def test_what_cannot_count_changes_nothing(store: Store) -> None:
    """A date that had passed when it was recorded would change the past; a text that is no definition cannot
    be folded with; and only the promotion of a replay restates the past (not_built)."""
    late, unreadable, restating = (decided(STRICT, WEDNESDAY, now) for now in (WEDNESDAY + 1, BEFORE, BEFORE))
    unreadable[0] = msgspec.structs.replace(unreadable[0], body="no definition")
    restating[3] = facts.activated("house", 2, None, PERSON, BEFORE + 3)
    for said in (late, unreadable, restating):
        await store.begin([(None, HOUSE)])
        await store.take(live.on_topics([*said, *EVENTS]))
        assert await labels(store) == ["house@1"]
        assert await store.differences(EVENTS) == []


@pytest.mark.slow
async def test_a_version_that_joins_later_has_the_dates_that_lie_after_its_beginning(store: Store) -> None:
    """What was decided before or while it was built counts in it as well; what lies before it is restated.
    The version that BI reads is not behind for it."""
    events = [*EVENTS[:2], spec.demo("fri 09:00", id="another")]
    for begun, dates in ((WEDNESDAY - 1, [(WEDNESDAY, STRICT)]), (WEDNESDAY, [])):
        await store.begin([(None, HOUSE)])
        async with store.pool.acquire() as connection, connection.transaction():
            number = await create_version(connection, [TimelineEntry(None, OTHER)])
            await connection.execute(
                "update ops.version set created_at = $2 where version_no = $1", number, begun
            )
        records = live.on_topics([*decided(STRICT, WEDNESDAY), *events])
        await store.take(records)
        await store.settle()
        async with store.pool.acquire() as connection, connection.transaction():
            await stop_feeding(connection)
            await adopt_facts(connection, number)
            await let_feed(connection, number)
            assert await count_stale(connection, "v0001", 1) == 0
        await store.settle()
        store.schemas = ["v0001", "v0002"]
        store.timelines = [[(None, HOUSE), (WEDNESDAY, STRICT)], [(None, OTHER), *dates]]
        assert await store.differences(events) == []


@pytest.mark.slow
async def test_a_version_that_has_a_date_to_come_is_known_again(store: Store) -> None:
    """A run that was killed goes on with the version that it had built, though joining has lengthened the
    timeline; a date that has come meanwhile would not be in a new version, so that one is another."""
    candidate = Candidate([TimelineEntry(None, OTHER)])
    for date, is_ready in ((YEAR_2100, True), (WEDNESDAY, False)):
        await store.begin([(None, HOUSE)])
        await store.take(live.on_topics(decided(STRICT, date)))
        async with store.pool.acquire() as connection:
            number = await create_version(connection, candidate.timeline)
            await connection.execute("update ops.version set created_at = $1, status = 'built'", BEFORE)
            await connection.execute("update ops.version set status = 'promoted' where version_no = 1")
            before = await ready(connection, candidate)
            await adopt_facts(connection, number)
            assert (before, await ready(connection, candidate)) == (
                (number,) * 2 if is_ready else (None,) * 2
            )


async def test_what_was_known_then_is_built_by_what_bi_reads(store: Store) -> None:
    """Under a newer definition, approved and not yet promoted, rows would differ for what it changes, and not
    for facts that came later."""
    await store.begin([(None, HOUSE)])
    await store.take(live.on_topics(decided(STRICT, YEAR_2100)))
    async with store.pool.acquire() as connection:
        candidate = await as_known(connection, MONDAY)
    assert candidate.timeline == [TimelineEntry(None, HOUSE), TimelineEntry(YEAR_2100, STRICT)]
    assert candidate.as_known_at == MONDAY


async def test_another_schedule_of_the_same_date_replaces_the_first(store: Store) -> None:
    """So a schedule can be taken back: the present definition is scheduled for the date."""
    await store.begin([(None, HOUSE)])
    back = facts.activated("house", 1, WEDNESDAY, PERSON, BEFORE + 20)
    said = [*decided(STRICT, WEDNESDAY), *decided(HOUSE, WEDNESDAY + DAY, BEFORE + 10)[:3], back]
    await store.take(live.on_topics(said))
    assert await labels(store) == ["house@1+house@1"]


def test_a_rebuild_of_the_log_knows_what_others_agreed_on_for_a_date() -> None:
    """Activations of another source count live as well; only a switch of versions restates the past."""
    first = facts.activated("house", 1, None, PERSON, BEFORE - 1)
    proposed = facts.proposed(definition.parse(HOUSE), "first", PERSON, BEFORE - 2)
    restating = facts.activated("house", 2, None, PERSON, BEFORE + 9)
    theirs = [
        msgspec.structs.replace(fact, source="governance")
        for fact in (restating, *decided(STRICT, WEDNESDAY))
        if isinstance(fact, DefinitionFact)
    ]
    assert list(in_force([*reversed(theirs), first, proposed])) == [(None, HOUSE), (WEDNESDAY, STRICT)]


@pytest.mark.slow
async def test_a_fact_that_loses_to_another_copy_of_its_id_no_longer_counts(store: Store) -> None:
    """In either order of arrival: a schedule moved to another date, one that was no schedule at all, and open
    hours whose better copy is a fault. What had come first stayed in force, which no replay knew."""
    first = decided(STRICT, WEDNESDAY)
    moved = msgspec.structs.replace(first[3], valid_from=WEDNESDAY + DAY, recorded_at=BEFORE + 2)
    touch = msgspec.structs.replace(EVENTS[0], event_id=first[3].event_id, recorded_at=BEFORE + 2)
    for better, label in ((moved, "house@1+house@2"), (touch, "house@1")):
        for said in ([*first, better], [*first[:3], better, first[3]]):
            await store.begin([(None, HOUSE)])
            for record in live.on_topics([*said, *EVENTS]):
                await store.take([record])
            await store.settle()
            assert await labels(store) == [label]
            store.timelines = [[(None, HOUSE), *([(WEDNESDAY + DAY, STRICT)] if better is moved else [])]]
            assert await store.differences([*said, *EVENTS]) == []
    shut = spec.calendar("mon 08:00", {"tue": [["09:00", "10:00"]]})
    fault = msgspec.structs.replace(shut, recorded_at=shut.recorded_at - DAY)
    for copies in ([shut, fault], [fault, shut]):
        await store.begin([(None, HOUSE)])
        for record in live.on_topics([*EVENTS, *copies]):
            await store.take([record])
        await store.settle()
        assert await store.fetch("select * from log.reference") == []
        assert await store.differences([*EVENTS, *copies]) == []


async def test_a_plan_says_whether_a_replay_is_needed_at_all(store: Store) -> None:
    """What both teams agreed on restates the past by a replay, or counts from its date on without one."""
    await store.begin([(None, HOUSE)])

    async def planned() -> str:
        result = await asyncio.to_thread(commands_on(store.dsn), "replay", "plan")
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    date = YEAR_2100
    *agreed, scheduled = live.on_topics(decided(STRICT, date))
    await store.take(agreed)
    assert "leadlog definition schedule house 2 --from DATE" in await planned()
    await store.take([scheduled])
    assert "without a replay it counts from 2100-01-01T00:00:00Z on" in await planned()
