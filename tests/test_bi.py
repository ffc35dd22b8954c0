"""What BI reads: names, types, comments, values, rights, and that a switch of versions is invisible.

The rows under the views are put there by hand; that the projector makes such rows is tested elsewhere.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from infra.postgres import READER_CONNECTIONS
from projections import definition
from projections.rules import Entry, Rules
from schemas.records import (
    Actor,
    CalendarChanged,
    CampaignScheduled,
    DefinitionApproved,
    DefinitionProposed,
    Envelope,
)
from services.projector.lag import KEEP
from services.store.calendars import calendar_rows
from services.store.locks import FEEDING
from services.store.pool import Connection, connect
from services.store.promoted import promoted_views
from services.store.timeline import TimelineEntry
from services.store.versions import create_version, promote
from services.store.views import render, replace_views
from tests.feeding import DEFINITION, prepare_database
from tests.servers import Servers

pytestmark = [pytest.mark.servers, pytest.mark.slow]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MONDAY = 1_774_224_000_000_000
"""2026-03-23T00:00:00Z."""

GOLDEN = Path(__file__).with_name("bi_columns.json")
COLUMNS: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text())
"""View to its columns in their order, with their types: what reports were promised. Only ever added to."""

ROWS: dict[str, dict[str, Any]] = {
    "lead_state": {
        "stage": "MQL",
        "stage_role": "mql",
        "stage_entered_at": MONDAY,
        "stage_entered_event_id": "e1",
        "furthest_role": "mql",
        "handoff_status": "open",
        "score": 55,
        "flags": "",
        "fault_count": 0,
        "open_opportunities": 0,
        "won_opportunities": 0,
        "event_count": 3,
        "last_event_id": "e3",
        "last_event_at": MONDAY + HOUR,
    },
    "stage_visit": {
        "visit_no": 1,
        "stage": "MQL",
        "stage_role": "mql",
        "entered_at": MONDAY,
        "is_inferred": False,
        "entered_event_id": "e1",
    },
    "handoff": {"handoff_no": 1, "opened_at": MONDAY, "opened_event_id": "e1"},
    "sla_clock": {
        "policy_id": "first_contact",
        "clock_no": 1,
        "started_at": MONDAY,
        "started_event_id": "e1",
        "paused_seconds": 0.0,
    },
    "sla_warning": {"policy_id": "first_contact", "clock_no": 1, "share": 0.5},
    "opportunity": {
        "opportunity_id": "o1",
        "status": "won",
        "amount_minor": 1000,
        "adjusted_minor": 0,
        "currency": "EUR",
        "first_event_at": MONDAY,
        "first_event_id": "e1",
    },
    "credit": {
        "opportunity_id": "o1",
        "touch_event_id": "t1",
        "kind": "win",
        "event_id": "w1",
        "channel": "email",
        "positions": "FT,CW",
        "effective_at": MONDAY,
        "won_at": MONDAY,
        "currency": "EUR",
    },
    "lead_money": {"currency": "EUR", "won_minor": 1000, "adjusted_minor": -200},
    "attribute_change": {"name": "country", "value": "DE"},
    "content_event": {"request_id": "r1", "topic": "security", "actor_kind": "human"},
    "fault": {
        "event_id": "f1",
        "copy_no": 1,
        "record_name": "HandoffRejected",
        "code": "no_open_handoff",
        "message": "no hand-off is open",
        "occurred_at": MONDAY,
    },
}
"""What rows hold unless a test says otherwise."""


@pytest.fixture
async def bi(database: str) -> AsyncIterator[Connection]:
    """A database whose v0001, with the default definition, is promoted and empty."""
    connection = await connect(database)
    await prepare_database(database, connection, DEFINITION)
    yield connection
    await connection.close()


@pytest.fixture
async def reader(bi: Connection, reader_dsn: str) -> AsyncIterator[Connection]:
    """A BI tool's connection to that database."""
    connection = await asyncpg.connect(reader_dsn)
    yield connection
    await connection.close()


async def put(connection: Connection, table: str, **values: Any) -> None:
    """Inserts a row into v0001 as ROWS has it, with other values as given."""
    await put_into(connection, "v0001", table, values)


async def put_into(connection: Connection, schema: str, table: str, values: dict[str, Any]) -> None:
    """The same, into any version."""
    row = {"journey_id": "j1", **ROWS[table]} | values
    if table != "sla_warning":
        row["definition_version"] = "default@1"
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(
        f"insert into {schema}.{table} ({', '.join(row)}) values ({places})", *row.values()
    )


async def look(connection: Connection, query: str) -> list[dict[str, Any]]:
    """Rows as dictionaries."""
    return [dict(row) for row in await connection.fetch(query)]


async def second_version(connection: Connection) -> None:
    """Makes v0002, which is not promoted."""
    async with connection.transaction():
        await create_version(
            connection, [TimelineEntry(None, DEFINITION.replace("version: 1", "version: 2"))]
        )


async def test_views_have_the_columns_of_the_contract(bi: Connection) -> None:
    """Names, order and types of every column are those promised to reports."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in await bi.fetch(
        "select table_name, column_name, data_type from information_schema.columns "
        "where table_schema = 'bi' order by table_name, ordinal_position"
    ):
        found.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
    assert found == {view: list(columns.items()) for view, columns in COLUMNS.items()}


async def test_every_view_and_column_has_a_comment(bi: Connection) -> None:
    """A BI tool that shows comments shows one everywhere."""
    silent = await bi.fetch(
        "select class.relname, attribute.attname from pg_class class "
        "join pg_attribute attribute on attribute.attrelid = class.oid and attribute.attnum > 0 "
        "where class.relnamespace = 'bi'::regnamespace and "
        "(obj_description(class.oid) is null or col_description(class.oid, attribute.attnum) is null)"
    )
    assert silent == []
    credit = await bi.fetchval("select obj_description('bi.credit'::regclass)")
    assert "convention" in credit
    assert "not causal lift" in credit


async def test_lead_current_shows_the_row_and_whether_it_is_parked(bi: Connection) -> None:
    """A lead stopped by a defect is marked in the promoted version only."""
    await second_version(bi)
    await put(bi, "lead_state")
    await put(bi, "lead_state", journey_id="j2", score=7)
    await bi.execute(
        "insert into ops.parked (version_no, journey_id, error, detail) values (1, 'j2', '', '')"
    )
    await bi.execute(
        "insert into ops.parked (version_no, journey_id, error, detail) values (2, 'j1', '', '')"
    )
    rows = await look(
        bi, "select journey_id, score, is_parked, last_event_at from bi.lead_current order by 1"
    )
    assert rows == [
        {"journey_id": "j1", "score": 55, "is_parked": False, "last_event_at": MONDAY + HOUR},
        {"journey_id": "j2", "score": 7, "is_parked": True, "last_event_at": MONDAY + HOUR},
    ]


async def test_an_open_visit_is_measured_up_to_now(bi: Connection) -> None:
    """Business seconds from two look-ups are those of the calendar itself, wherever the visit began."""
    await bi.execute("begin")
    now = await bi.fetchval("select now()")
    begun = [now - 3 * DAY, now - 40 * DAY - 7 * HOUR, now - 1, now - 400 * DAY + 12_345]
    for number, instant in enumerate(begun):
        await put(bi, "stage_visit", visit_no=number, entered_at=instant)
    rows = await look(bi, "select * from bi.stage_visit order by visit_no")
    agreed = definition.parse(DEFINITION)
    calendar = agreed.calendars[agreed.calendar]
    assert [row["business_seconds"] for row in rows] == [calendar.elapsed(at, now) / 1e6 for at in begun]
    assert [row["calendar_seconds"] for row in rows] == [(now - at) / 1e6 for at in begun]
    assert all(row["is_open"] for row in rows)


async def test_a_closed_visit_keeps_what_was_measured(bi: Connection) -> None:
    """Calendars laid out in SQL touch open visits only."""
    closed = {"left_at": MONDAY + HOUR, "next_stage": "SQL", "left_event_id": "e2"}
    await put(bi, "stage_visit", **closed, calendar_seconds=3600.0, business_seconds=12.5)
    [row] = await look(bi, "select is_open, calendar_seconds, business_seconds, left_at from bi.stage_visit")
    assert row == {
        "is_open": False,
        "calendar_seconds": 3600.0,
        "business_seconds": 12.5,
        "left_at": MONDAY + HOUR,
    }


async def test_a_visit_from_before_the_calendars_has_no_business_time(bi: Connection) -> None:
    """Rather no number than a wrong one."""
    await put(bi, "stage_visit", entered_at=0)
    [row] = await look(bi, "select calendar_seconds > 0 as is_measured, business_seconds from bi.stage_visit")
    assert row == {"is_measured": True, "business_seconds": None}


CLOCKS: list[tuple[str, dict[str, int | str | None], float | None, float]] = [
    ("running", {"warn_at": HOUR, "due_at": 2 * HOUR}, None, 0),
    ("running", {"due_at": 0}, None, 0),
    ("warned", {"warn_at": 0, "due_at": HOUR}, None, 0),
    ("overdue", {"warn_at": -2 * HOUR, "due_at": -HOUR}, 3600, 0),
    ("paused", {"paused_from": -HOUR}, None, 3600),
    (
        "paused",
        {"paused_from": -HOUR, "paused_until": HOUR, "due_at": 2 * HOUR, "warn_at": -2 * HOUR},
        None,
        3600,
    ),
    ("running", {"paused_from": -2 * HOUR, "paused_until": -HOUR, "warn_at": 1, "due_at": HOUR}, None, 3600),
    ("running", {"paused_from": HOUR, "warn_at": 1}, None, 0),
    ("met", {"due_at": -HOUR, "stopped_at": -HOUR, "stopped_recorded_at": -HOUR}, None, 0),
    ("met", {"due_at": None, "stopped_at": -HOUR, "stopped_recorded_at": 0}, None, 0),
    ("met_logged_late", {"due_at": -HOUR, "stopped_at": -HOUR, "stopped_recorded_at": 1 - HOUR}, None, 0),
    ("breached", {"due_at": -HOUR, "stopped_at": -HOUR + 1, "stopped_recorded_at": 0}, 1e-6, 0),
    (
        "cancelled",
        {"due_at": -HOUR, "stopped_at": 0, "stopped_recorded_at": 0, "cancelled_reason": "moved"},
        None,
        0,
    ),
]
"""State, instants from now, late seconds, paused seconds."""


async def test_the_state_of_a_clock_follows_from_its_instants_and_now(bi: Connection) -> None:
    """Every state, at its very edge."""
    await bi.execute("begin")
    now = await bi.fetchval("select now()")
    for number, (_, values, _, _) in enumerate(CLOCKS):
        instants = {name: now + value if isinstance(value, int) else value for name, value in values.items()}
        await put(bi, "sla_clock", clock_no=number, **instants)
    rows = await look(bi, "select state, late_seconds, paused_seconds from bi.sla_clock order by clock_no")
    assert rows == [
        {"state": state, "late_seconds": late, "paused_seconds": paused} for state, _, late, paused in CLOCKS
    ]


async def test_warnings_name_their_share(bi: Connection) -> None:
    """All warnings of a clock are there, also one whose instant is not known."""
    await put(bi, "sla_warning", warn_at=MONDAY)
    await put(bi, "sla_warning", share=0.8)
    rows = await look(bi, "select share, warn_at, definition_version from bi.sla_warning order by share")
    assert rows == [
        {"share": 0.5, "warn_at": MONDAY, "definition_version": "default@1"},
        {"share": 0.8, "warn_at": None, "definition_version": "default@1"},
    ]


MEDIANS: list[tuple[list[float | None], list[bool], float | None]] = [
    ([], [], None),
    ([5.0], [False], 5.0),
    ([5.0], [True], None),
    ([1.0, 2.0, 3.0, 4.0], [False] * 4, 2.0),
    ([1.0, 2.0, 3.0, 4.0], [True, False, False, False], 3.0),
    ([1.0, 2.0, 9.0, 9.0, 9.0], [False, False, True, True, True], None),
    ([4.0, 4.0, 4.0, 1.0], [True, False, False, False], 4.0),
    ([None, 2.0, 1.0], [True, False, False], 1.0),
]
"""Seconds, which of them are open, the median."""


async def test_the_median_counts_what_is_not_over(bi: Connection) -> None:
    """Kaplan-Meier by hand: the first time at which at most half are left; ties end together."""
    for seconds, is_open, expected in MEDIANS:
        found = await bi.fetchval("select ops.kaplan_meier_median($1, $2)", seconds, is_open)
        assert found == expected, (seconds, is_open)


async def test_credit_has_a_row_per_touch_and_model(bi: Connection) -> None:
    """Parallel arrays become rows; nothing given is no row, and no touch is null."""
    models = {"models": ["first", "linear"]}
    await put(bi, "credit", **models, weights=[1.0, 0.5], amounts=[1000, 500])
    await put(bi, "credit", **models, touch_event_id="t2", weights=[0.0, 0.5], amounts=[0, 500])
    await put(bi, "credit", models=["first"], opportunity_id="o2", touch_event_id="", channel="unattributed",
              weights=[1.0], amounts=[0])  # fmt: skip
    rows = await bi.fetch(
        "select opportunity_id, touch_event_id, model, weight, amount_minor from bi.credit order by 1, 2, 3"
    )
    assert [tuple(row) for row in rows] == [
        ("o1", "t1", "first", 1.0, 1000),
        ("o1", "t1", "linear", 0.5, 500),
        ("o1", "t2", "linear", 0.5, 500),
        ("o2", None, "first", 1.0, 0),
    ]


async def test_a_deal_of_several_journeys_counts_once(bi: Connection) -> None:
    """It is marked as shared everywhere, and counted where its earliest event is, in the contract's order: by
    instant, then sequence, then id."""
    await put(bi, "opportunity", first_event_id="e2", first_event_sequence=7)
    await put(bi, "opportunity", journey_id="j2", first_event_id="e3", first_event_sequence=6)
    await put(bi, "opportunity", journey_id="j4", first_event_id="e1", first_event_sequence=7)
    await put(bi, "opportunity", journey_id="j3", first_event_at=MONDAY + 1, first_event_id="e0")
    await put(bi, "opportunity", opportunity_id="o2", status="open", amount_minor=None, currency=None)
    rows = await bi.fetch(
        "select opportunity_id, journey_id, is_shared, is_counted from bi.opportunity order by 1, 2"
    )
    assert [tuple(row) for row in rows] == [
        ("o1", "j1", True, False),
        ("o1", "j2", True, True),
        ("o1", "j3", True, False),
        ("o1", "j4", True, False),
        ("o2", "j1", False, True),
    ]


async def test_handoffs_money_and_faults_are_shown_as_they_are(bi: Connection) -> None:
    """Plain views show the projection's values."""
    await put(bi, "handoff")
    await put(bi, "lead_money")
    await put(bi, "fault")
    assert [row["outcome"] for row in await bi.fetch("select * from bi.handoff")] == [None]
    [money] = await bi.fetch("select * from bi.lead_money")
    assert tuple(money) == ("j1", "EUR", 1000, -200, "default@1")
    [fault] = await bi.fetch("select * from bi.fault")
    assert tuple(fault)[:5] == ("f1", 1, "j1", "HandoffRejected", "no_open_handoff")


async def test_every_subject_leads_to_its_journey(bi: Connection) -> None:
    """The look-up has a row per subject id."""
    await bi.execute("insert into log.subject (subject_id, journey_id) values ('b', 'a'), ('a', 'a')")
    rows = await bi.fetch("select subject_id, journey_id from bi.lead_subject order by 1")
    assert [tuple(row) for row in rows] == [("a", "a"), ("b", "a")]


async def test_stages_stand_in_their_order(bi: Connection) -> None:
    """Names and roles of the promoted definition, as the file has them."""
    rows = await bi.fetch("select name, role from bi.stage order by position")
    assert [tuple(row) for row in rows] == [
        (stage.name, stage.role) for stage in definition.parse(DEFINITION).stages
    ]


async def remember(connection: Connection, *facts: Envelope) -> None:
    """Puts reference facts where the projector keeps them."""
    for fact in facts:
        await connection.execute(
            "insert into log.reference values ($1, $2, $3, $4, $5, $6)",
            *(fact.event_id, type(fact).__name__, fact.subject_id, fact.occurred_at, fact.recorded_at),
            msgspec.json.encode(fact).decode(),
        )


async def test_a_definition_shows_who_agreed_to_it(bi: Connection) -> None:
    """Proposal and approvals with their people; what is missing is null."""

    def envelope(event_id: str, after: int, person: str | None) -> dict[str, Any]:
        at = MONDAY + after
        who = Actor("human", person)
        shared = {"subject_id": "default", "source": "test", "definition_id": "default", "version": 1}
        return {"event_id": event_id, "occurred_at": at, "recorded_at": at, "actor": who, **shared}

    await remember(
        bi,
        DefinitionProposed(**envelope("p", 0, "ada"), body="", rationale="because"),
        DefinitionApproved(**envelope("a2", 2, "eve"), team="marketing"),
        DefinitionApproved(**envelope("a1", 1, None), team="marketing"),
    )
    [row] = await look(bi, "select * from bi.definition")
    assert row == {
        "definition_id": "default",
        "version": 1,
        "rationale": "because",
        "proposed_at": MONDAY,
        "proposed_by": "ada",
        "marketing_approved_at": MONDAY + 1,
        "marketing_approved_by": "human",
        "sales_approved_at": None,
        "sales_approved_by": None,
        "activated_at": None,
        "activated_by": None,
        "valid_from": None,
        "is_promoted": True,
        "definition_version": "default@1",
    }


def scheduled(event_id: str, after: int, **fields: Any) -> CampaignScheduled:
    """The campaign `spring` as planned at an instant."""
    return CampaignScheduled(
        event_id=event_id,
        subject_id="spring",
        occurred_at=MONDAY + after,
        recorded_at=MONDAY + after,
        source="test",
        campaign_id="spring",
        name="Spring",
        channel="email",
        starts_at=MONDAY,
        **fields,
    )


async def test_the_latest_plan_of_a_campaign_counts(bi: Connection) -> None:
    """A later fact for the same campaign replaces the earlier one with all that sales is told."""
    await remember(
        bi,
        scheduled("p1", 0, talking_points=["old"], cost_minor=100, currency="EUR"),
        scheduled("p3", 1, source_sequence=1, talking_points=["not", "last"]),
        scheduled(
            "p2", 1, source_sequence=2, talking_points=["new"], data_points=["9 of 10"], ends_at=MONDAY
        ),
    )
    [campaign] = await look(bi, "select * from bi.campaign")
    assert (campaign["scheduled_event_id"], campaign["cost_minor"], campaign["currency"]) == (
        "p2",
        None,
        None,
    )
    assert (campaign["starts_at"], campaign["ends_at"]) == (MONDAY, MONDAY)
    points = await bi.fetch("select position, kind, body from bi.campaign_talking_point order by position")
    assert [tuple(row) for row in points] == [(1, "talking_point", "new"), (2, "data_point", "9 of 10")]


async def test_an_attribute_has_its_latest_value_since_it_has_had_it(bi: Connection) -> None:
    """Said again it is not newer; what is no longer known has no row; ties go by the source's order. A text
    that was said again as a number stayed a text."""
    values = ["DE", "AT", "DE", "DE"]
    for number, value in enumerate(values):
        await put(bi, "attribute_change", event_id=f"a{number}", value=value, changed_at=MONDAY + number)
    for number, size in enumerate([12.0, None]):
        fields: dict[str, Any] = {"name": "size", "value": "12" if size else None, "number_value": size}
        await put(bi, "attribute_change", event_id=f"b{number}", changed_at=MONDAY + number, **fields)
    for sequence, value in ((2, "late"), (1, "early")):
        fields = {"name": "stage", "value": value, "source_sequence": sequence}
        await put(bi, "attribute_change", event_id=f"c{3 - sequence}", changed_at=MONDAY, **fields)
    for number, size in enumerate([None, 12.0, 12.0]):
        fields = {"name": "staff", "value": "12", "number_value": size}
        await put(bi, "attribute_change", event_id=f"d{number}", changed_at=MONDAY + number, **fields)
    rows = await bi.fetch(
        "select name, value, number_value, since_at, event_id from bi.lead_attribute order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("country", "DE", None, MONDAY + 2, "a2"),
        ("staff", "12", 12.0, MONDAY + 1, "d1"),
        ("stage", "late", None, MONDAY, "c1"),
    ]


async def test_what_customers_are_worth_while_the_month_lasts_is_that_of_now(bi: Connection) -> None:
    """A refund dated ahead, within the month, counted already."""
    await put(bi, "stage_visit", stage="Customer", stage_role="won")
    await put(bi, "opportunity", closed_at=MONDAY)
    share = {"models": ["first"], "weights": [1.0]}
    await put(bi, "credit", **share, amounts=[1000])
    ends_at = await bi.fetchval("select ends_at from bi.customer_month where not is_complete")
    refund = {"kind": "adjustment", "event_id": "refund", "effective_at": ends_at}
    await put(bi, "credit", **share, **refund, amounts=[-200])
    money = "select start_minor, end_minor from bi.retention_money where not is_complete"
    assert await look(bi, money) == [{"start_minor": 1000, "end_minor": 1000}]


async def test_absurd_amounts_of_two_leads_end_no_report(bi: Connection) -> None:
    """A source that sends the largest integer for an unknown amount: the sum failed for every reader."""
    largest = 2**63 - 1
    for journey_id in ("crm:1", "crm:2"):
        lead = {"journey_id": journey_id, "opportunity_id": f"deal of {journey_id}"}
        await put(bi, "stage_visit", journey_id=journey_id, stage="Customer", stage_role="won")
        await put(bi, "opportunity", **lead, closed_at=MONDAY)
        await put(bi, "credit", **lead, models=["first"], weights=[1.0], amounts=[largest])
    by_channel = await bi.fetch("select distinct cohort_minor, ledger_minor from bi.credit_by_channel")
    held = await bi.fetch(
        "select distinct start_minor, end_minor from bi.retention_money where not is_complete"
    )
    assert [*map(tuple, by_channel), *map(tuple, held)] == [(largest, largest)] * 2


async def test_a_request_is_open_until_it_is_delivered(bi: Connection) -> None:
    """The first request and the first delivery of an id count; either may be missing."""
    await put(bi, "stage_visit", entered_at=MONDAY, left_at=MONDAY + DAY, next_stage="SQL")
    await put(bi, "stage_visit", visit_no=2, stage="SQL", stage_role="sql", entered_at=MONDAY + DAY)
    for event_id, after, fields in (
        ("q1", HOUR, {}),
        ("q2", 2 * HOUR, {"topic": "asked again"}),
        ("d1", 2 * DAY + HOUR, {"is_delivery": True, "content_id": "paper"}),
        ("d2", 3 * DAY, {"is_delivery": True, "content_id": "another"}),
        ("q3", DAY, {"request_id": "r2"}),
        ("d3", 0, {"request_id": "r3", "is_delivery": True}),
    ):
        row = {"is_delivery": False, "happened_at": MONDAY + after} | fields
        await put(bi, "content_event", event_id=event_id, **row)
    rows = await look(
        bi,
        "select request_id, topic, requested_event_id, delivered_event_id, content_id, stage, "
        "case when delivered_at is not null then days_open end as days, days_open > 3 as is_long "
        "from bi.content_request order by request_id",
    )
    assert [tuple(row.values()) for row in rows] == [
        ("r1", "security", "q1", "d1", "paper", "MQL", 2.0, False),
        ("r2", "security", "q3", None, None, "SQL", None, True),
        ("r3", "security", None, "d3", None, "MQL", None, None),
    ]


async def record_lag(connection: Connection, ends: dict[tuple[str, int], int]) -> None:
    """The projector has seen these ends of partitions just now."""
    topics, partitions = [topic for topic, _ in ends], [partition for _, partition in ends]
    await connection.execute(KEEP, topics, partitions, list(ends.values()))


async def test_freshness_says_how_much_is_missing(bi: Connection) -> None:
    """Lag counts from the last time that everything was read; unread events are counted."""
    await bi.execute("insert into log.position values ('lead.events', 0, 70), ('lead.identity', 0, 5)")
    await record_lag(bi, {("lead.events", 0): 70, ("lead.identity", 0): 5})
    await bi.execute("update ops.lag set caught_up_at = caught_up_at - interval '30 seconds'")
    await record_lag(bi, {("lead.events", 0): 100, ("lead.identity", 0): 5})
    await put(bi, "lead_state")
    [row] = await look(bi, "select * from bi.data_freshness where projection = 'credit'")
    assert row.pop("lag_seconds") == pytest.approx(30, abs=20)
    assert row == {
        "projection": "credit",
        "last_event_at": MONDAY + HOUR,
        "events_behind": 30,
        "stale_journeys": 0,
        "parked_journeys": 0,
        "rebuild_running": False,
        "definition_version": "default@1",
    }


async def test_freshness_is_not_guessed_while_the_projector_is_silent(bi: Connection) -> None:
    """An old reading gives no count of events; the lag goes on growing."""
    await bi.execute("insert into log.position values ('lead.events', 0, 70)")
    await record_lag(bi, {("lead.events", 0): 70})
    await bi.execute(
        "update ops.lag set measured_at = measured_at - interval '90 seconds', "
        "caught_up_at = caught_up_at - interval '90 seconds'"
    )
    [row] = await look(bi, "select distinct events_behind, lag_seconds from bi.data_freshness")
    assert row["events_behind"] is None
    assert row["lag_seconds"] == pytest.approx(90, abs=30)


async def test_freshness_counts_what_waits_to_be_folded(bi: Connection) -> None:
    """Stale journeys, journeys folded before the latest reference fact unless they are parked, and a version
    being built."""
    await bi.execute("update log.reference_revision set revision = 3")
    await bi.execute(
        "insert into v0001.journey (journey_id, revision, reference_revision, events, is_stale) values "
        "('a', 1, 3, 1, false), ('b', 1, 3, 1, true), ('c', 1, 2, 1, false), ('d', 1, 2, 1, true), "
        "('parked', 1, 2, 1, false)"
    )
    await bi.execute(
        "insert into ops.parked (version_no, journey_id, error, detail) values (1, 'parked', 'e', 'd')"
    )
    await second_version(bi)
    [row] = await look(bi, "select distinct stale_journeys, rebuild_running from bi.data_freshness")
    assert row == {"stale_journeys": 3, "rebuild_running": True}


async def test_drift_from_another_version_that_is_kept_up(bi: Connection, reader: Connection) -> None:
    """Per week of the first event: journeys that are MQLs in one of the two only. A version that is being
    built is not compared, and one that goes away leaves nothing behind."""
    await second_version(bi)
    first = {"visit_no": 1, "stage": "Visitor", "stage_role": "anonymous"}
    for schema, mqls in (("v0001", "ab"), ("v0002", "bc")):
        for journey_id in "abcd":
            begin = MONDAY + 7 * DAY * (journey_id == "d")
            visit = {"journey_id": journey_id, **first, "entered_at": begin}
            await put_into(bi, schema, "stage_visit", visit)
            mql = {"journey_id": journey_id, "visit_no": 2, "is_inferred": journey_id not in mqls}
            await put_into(bi, schema, "stage_visit", mql | {"entered_at": begin + DAY})
    query = "select * from definition_drift where compared_with <> 'sales' order by week"
    assert await reader.fetch(query) == []
    await bi.execute("update ops.version set status = 'fed' where version_no = 2")
    name, label = "default@2 (version 2)", "default@1"
    assert [tuple(row) for row in await reader.fetch(query)] == [
        (date(2026, 3, 23), name, 3, 1, 1, 2, pytest.approx(2 / 3), label),
        (date(2026, 3, 30), name, 1, 0, 0, 0, 0.0, label),
    ]
    await bi.execute("drop schema v0002 cascade")
    assert await reader.fetch(query) == []


async def test_replacing_the_views_keeps_names_comments_and_grants(bi: Connection) -> None:
    """After a switch and back the catalogue says the same, and the other version is shown in between."""
    catalogue = (
        "select oid, relname, relacl::text, obj_description(oid), "
        "(select string_agg(col_description(oid, attnum), '|' order by attnum) "
        "from pg_attribute where attrelid = oid) "
        "from pg_class where relnamespace = 'bi'::regnamespace order by relname"
    )
    before = await bi.fetch(catalogue)
    await second_version(bi)
    await put_into(bi, "v0002", "lead_state", {"journey_id": "other"})
    for number, journeys in ((2, ["other"]), (1, [])):
        async with bi.transaction():
            await promote(bi, number)
        assert [row["journey_id"] for row in await bi.fetch("select * from bi.lead_current")] == journeys
        assert await bi.fetch(catalogue) == before


async def test_a_switch_replaces_the_views_on_the_tables_only(bi: Connection) -> None:
    """What is replaced is plain and little, so readers wait for little."""
    made = "select xmin::text from pg_rewrite where ev_class = $1::text::regclass"
    views = ("promoted.handoff", "bi.handoff", "bi.win_rate")
    before = [await bi.fetchval(made, view) for view in views]
    await second_version(bi)
    async with bi.transaction():
        await promote(bi, 2)
    after = [await bi.fetchval(made, view) for view in views]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


async def test_a_rollback_to_an_earlier_release_keeps_the_columns_that_came_since(bi: Connection) -> None:
    """A release appends a column and a table; the version of the release before shows null and no rows."""
    await second_version(bi)
    await bi.execute('alter table v0002.handoff add reviewed_by text collate "C"')
    await bi.execute("create table v0002.fault_note (event_id text, noted_at timestamptz not null)")
    for schema in ("v0001", "v0002"):
        await put_into(bi, schema, "handoff", {})
    await bi.execute("update v0002.handoff set reviewed_by = 'ann'")

    async def seen(number: int) -> tuple[list[tuple[Any, ...]], int]:
        async with bi.transaction():
            tables = ["handoff", "fault_note"]
            await replace_views(bi, await promoted_views(bi, f"v000{number}", tables))
        rows = await bi.fetch("select reviewed_by from promoted.handoff")
        assert len(await bi.fetch("select * from bi.handoff")) == 1
        return [tuple(row) for row in rows], len(await bi.fetch("select * from promoted.fault_note"))

    await bi.execute("insert into v0002.fault_note values ('e1', '2025-01-06')")
    assert await seen(2) == ([("ann",)], 1)
    assert await seen(1) == ([(None,)], 0)
    assert await seen(2) == ([("ann",)], 1)


async def test_a_changed_comment_is_written_at_the_next_switch(bi: Connection) -> None:
    """Comments follow the files, whatever was there."""
    await bi.execute("comment on column bi.credit.model is 'old'")
    async with bi.transaction():
        await promote(bi, 1)
    text = await bi.fetchval("select col_description('bi.credit'::regclass, 8)")
    assert text == render().comments["credit", "model"]


async def read_until(reader: Connection, is_over: asyncio.Event) -> list[str]:
    """Reads again and again; each read names the version that it saw."""
    seen: list[str] = []
    while not is_over.is_set():
        seen.append(await reader.fetchval("select string_agg(definition_version, '/') from lead_current"))
    return seen


async def test_readers_never_see_a_gap(bi: Connection, reader_dsn: str) -> None:
    """While versions are switched to and fro every read succeeds and sees exactly one of them."""
    await second_version(bi)
    for schema in ("v0001", "v0002"):
        await put_into(bi, schema, "lead_state", {})
    await bi.execute("update v0002.lead_state set definition_version = 'default@2'")
    is_over = asyncio.Event()
    readers = [await asyncpg.connect(reader_dsn) for _ in range(3)]
    reading = [asyncio.create_task(read_until(reader, is_over)) for reader in readers]
    for number in (2, 1) * 5:
        async with bi.transaction():
            await promote(bi, number)
    is_over.set()
    seen = {version for task in reading for version in await task}
    assert seen == {"default@1", "default@2"}
    for reader in readers:
        await reader.close()


async def test_the_reader_reads_bi_and_nothing_else(bi: Connection, reader: Connection) -> None:
    """Every view can be read without its schema's name; log, ops and versions cannot."""
    for view in COLUMNS:
        await reader.fetch(f"select * from {view}")
    for table in ("log.event", "ops.version", "v0001.lead_state"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"select * from {table}")


async def test_the_reader_cannot_write(bi: Connection, reader: Connection) -> None:
    """Transactions are read-only, and a reader who turns that off still has no right to write anything."""
    assert await reader.fetchval("show transaction_read_only") == "on"
    await reader.execute("set default_transaction_read_only = off")
    for attempt in (
        "update lead_subject set journey_id = 'x'",
        "delete from fault",
        "create table bi.mine (x int)",
        "create table public.mine (x int)",
        "create temporary table mine (x int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(attempt)


async def test_the_reader_holds_nobody_up_and_keeps_nothing(servers: Servers) -> None:
    """An advisory lock of its own stopped the projector; large objects, the write-ahead log, and other
    databases, were open."""
    reader = await asyncpg.connect(servers.bi_dsn)
    attempts = ("lo_create(0)", "lo_from_bytea(0, 'x')", "pg_logical_emit_message(false, 'x', 'x')")
    try:
        for attempt in (f"pg_advisory_lock({FEEDING})", *attempts):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(f"begin read write; select {attempt}; commit")
            await reader.execute("rollback")
    finally:
        await reader.close()
    for database in ("postgres", "registry", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(servers.bi_dsn, database=database)


async def test_readers_leave_connections_to_the_services(servers: Servers) -> None:
    """A pool that grew took every connection of the server: no worker and no door could come back."""
    readers = []
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            for _ in range(2 * READER_CONNECTIONS):
                readers.append(await asyncpg.connect(servers.bi_dsn))
        assert 0 < len(readers) <= READER_CONNECTIONS
        service = await asyncpg.connect(servers.addresses.postgres_dsn)
        await service.close()
    finally:
        for each in readers:
            await each.close()


async def test_the_reader_is_stopped_after_half_a_minute(bi: Connection, reader: Connection) -> None:
    """A careless query cannot hold a switch up for ever."""
    assert await reader.fetchval("show statement_timeout") == "30s"
    assert await reader.fetchval("show search_path") == "bi"


async def test_a_version_has_an_odd_name(bi: Connection) -> None:
    """Only names of version schemas are put into SQL."""
    with pytest.raises(ValueError, match="names no version"):
        await promoted_views(bi, "v1; drop schema bi", ["touch"])


def calendar_fact(at: int, weekly: dict[str, list[list[str]]]) -> CalendarChanged:
    """The calendar `office` as changed at an instant."""
    return CalendarChanged(
        event_id=f"c{at}",
        subject_id="office",
        occurred_at=at,
        recorded_at=at,
        source="test",
        calendar_id="office",
        zone="UTC",
        weekly=weekly,
    )


def test_calendars_are_laid_out_per_definition_of_the_timeline() -> None:
    """Each definition brings its calendars, with the open time before each window added up."""
    later = definition.parse(DEFINITION.replace("version: 1", "version: 2"))
    rules = Rules([Entry(None, definition.parse(DEFINITION)), Entry(MONDAY, later)])
    calendars, windows = calendar_rows(rules, MONDAY)
    assert [(row.calendar_id, row.valid_from, row.measures_visits) for row in calendars] == [
        ("office", None, True),
        ("office", MONDAY, True),
    ]
    for first, second in pairwise(windows):
        if first[0] == second[0]:
            assert second[3] - first[3] == first[2] - first[1]


def test_the_latest_calendar_fact_wins() -> None:
    """A fact about a calendar replaces the one in every definition."""
    facts = [
        calendar_fact(MONDAY, {"sun": [["10:00", "11:00"]]}),
        calendar_fact(MONDAY + 1, {"sat": [["10:00", "12:00"]]}),
    ]
    _, windows = calendar_rows(Rules([Entry(None, definition.parse(DEFINITION))], facts), MONDAY)
    assert {closes - opens for _, opens, closes, _ in windows} == {2 * HOUR}
