"""`leadlog lead`: one lead in full, and the event behind every value."""

import asyncio
import json
from typing import Any

import pytest

from projections import definition, identity, journey
from projections.history import History
from projections.journey import JourneyState
from projections.rules import Entry, Rules
from schemas import records as r
from schemas.contract import parse_line
from schemas.faults import Refused
from services.generator import kinds
from services.generator.stream import Plan, lines
from services.trace import changes, keyed, trace
from tests.feeding import DEFINITION, HOUR, HUMAN, MONDAY_TEN, Leadlog, at, commands_on, demo_request, given

STORY: list[r.Record] = [
    r.AttributeChanged(**at(0, "size"), name="company_size", value=80.0),
    r.TouchRecorded(
        **at(1, "visit", "web:7"), touch_type="page_view", direction="inbound", channel="organic_search"
    ),
    r.SubjectsLinked(**at(2, "link", "web:7"), other_subject_id="crm:1", evidence="identified"),
    r.HandoffRejected(**at(3, "too_early"), reason_code="no_need", return_to="nurture"),
    r.LeadAssigned(**at(4, "assigned"), owner_id="sam", team_id="north"),
    demo_request(5, "form"),
    demo_request(5.5, "form_again"),
    r.EventRetracted(**at(6, "oops"), target_event_id="form_again", reason_code="test"),
    r.ClockPaused(**at(6.5, "paused"), policy_id="handoff_review", reason_code="waiting"),
    r.ClockResumed(**at(6.75, "resumed"), policy_id="handoff_review", reason_code="back"),
    r.HandoffAccepted(**at(7, "accepted"), actor=HUMAN),
    r.OpportunityOpened(**at(8, "opened"), opportunity_id="deal", amount_minor=90_000, currency="EUR"),
    r.OpportunityChanged(**at(9, "offer"), opportunity_id="deal", amount_minor=100_000, currency="EUR"),
    r.OpportunityChanged(
        **(at(9, "offer") | {"recorded_at": MONDAY_TEN + 20 * HOUR}), opportunity_id="deal", sales_stage="x"
    ),
    r.OpportunityWon(**at(10, "won"), opportunity_id="deal", amount_minor=100_001, currency="EUR"),
    r.RevenueAdjusted(
        **at(11, "refund"),
        opportunity_id="deal",
        delta_minor=-1,
        currency="EUR",
        effective_at=MONDAY_TEN,
        reason_code="refund",
    ),
]


@pytest.fixture
def leadlog(database: str) -> Leadlog:
    """Runs a command on a database in which the default definition is in force."""
    asyncio.run(given(database, []))
    return commands_on(database)


def shown(leadlog: Leadlog, some_id: str) -> dict[str, Any]:
    """The lead as JSON."""
    result = leadlog("lead", some_id, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.servers
def test_any_id_of_the_lead_finds_it(leadlog: Leadlog, database: str) -> None:
    """Its journey id, another subject id and the id of any event, also a retracted one."""
    asyncio.run(given(database, STORY))
    whole = shown(leadlog, "crm:1")
    assert whole["subjects"] == ["crm:1", "web:7"]
    for some_id in ("web:7", "won", "form_again"):
        assert shown(leadlog, some_id)["timeline"] == whole["timeline"]


@pytest.mark.servers
def test_each_value_names_the_event_it_comes_from(leadlog: Leadlog, database: str) -> None:
    """The last event that changed the value, for state, clocks, deals and visits."""
    asyncio.run(given(database, STORY))
    lead = shown(leadlog, "crm:1")
    sources = lead["state"]["sources"]
    assert {
        name: sources[name] for name in ("stage", "owner_id", "score", "handoff_status", "first_touch_at")
    } == {
        "stage": "won",
        "owner_id": "assigned",
        "score": "form",
        "handoff_status": "accepted",
        "first_touch_at": "visit",
    }
    [clock] = [clock for clock in lead["sla_clocks"] if clock["policy_id"] == "handoff_review"]
    assert clock["sources"]["due_at"] == "resumed"
    assert clock["sources"]["stopped_at"] == "accepted"
    [deal] = lead["opportunities"]
    assert deal["sources"]["amount_minor"] == "won"
    assert deal["sources"]["opened_at"] == "opened"
    assert deal["sources"]["adjusted_minor"] == "refund"
    [money] = lead["money"]
    assert (money["won_minor"], money["adjusted_minor"]) == (100_001, -1)


@pytest.mark.servers
def test_the_timeline_has_every_event_with_its_effect(leadlog: Leadlog, database: str) -> None:
    """Retracted events, faults and losing copies are there and marked."""
    asyncio.run(given(database, STORY))
    timeline = shown(leadlog, "crm:1")["timeline"]
    told = {
        (entry["event"]["event_id"], entry["copy_no"]): (entry["status"], entry["effects"])
        for entry in timeline
    }
    assert [entry["event"]["event_id"] for entry in timeline] == [event.event_id for event in STORY]
    assert told["form_again", 1] == ("retracted", ["taken back by oops"])
    assert told["oops", 1] == ("control", ["takes back form_again"])
    assert told["too_early", 1] == (
        "fault",
        ["no effect: no_open_handoff, no hand-off is open at this event"],
    )
    assert told["offer", 1] == ("counts", ["opportunity deal now 1,000.00 EUR"])
    assert told["offer", 2] == ("fault", ["conflict: another copy of this id counts"])
    assert told["assigned", 1] == ("counts", ["owner sam (north)"])
    assert "stage Known -> MQL" in told["form", 1][1]
    assert "hand-off 1 opened" in told["form", 1][1]
    assert "hand-off 1 accepted" in told["accepted", 1][1]
    assert "credit of the win of deal: 2 touches" in told["won", 1][1]


@pytest.mark.servers
def test_credit_is_shown_per_model_and_sums_to_the_amount(leadlog: Leadlog, database: str) -> None:
    """Every model shares the whole win."""
    asyncio.run(given(database, STORY))
    credit = [row for row in shown(leadlog, "crm:1")["credit"] if row["kind"] == "win"]
    models = {model.name for model in definition.parse(DEFINITION).attribution.models}
    assert {row["model"] for row in credit} == models
    for model in models:
        assert sum(row["amount_minor"] for row in credit if row["model"] == model) == 100_001


@pytest.mark.servers
def test_the_text_is_plain_when_nobody_looks_at_a_terminal(leadlog: Leadlog, database: str) -> None:
    """No colours, no trailing blanks, every section."""
    asyncio.run(given(database, STORY))
    text = leadlog("lead", "crm:1").stdout
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    for heading in (
        "State",
        "Timeline (UTC; late = recorded so long after it happened)",
        "Stage visits",
        "Hand-offs",
        "SLA clocks",
        "Opportunities",
    ):
        assert heading in text.splitlines()
    assert "Credit of deal: win by event won (a convention, not causal lift)" in text
    assert "Won in force 1,000.01 EUR, adjusted by -0.01 EUR" in text


@pytest.mark.servers
def test_a_cancelled_clock_names_the_erasure(leadlog: Leadlog, database: str) -> None:
    """Erasure ends clocks that run, and is named as the reason; personal text is gone."""
    asked = r.SubjectErased(**at(6, "forget"), request_id="r1")
    asyncio.run(given(database, [demo_request(5, "form"), asked]))
    lead = shown(leadlog, "crm:1")
    assert {clock["state"] for clock in lead["sla_clocks"]} == {"cancelled"}
    assert {clock["sources"]["stopped_at"] for clock in lead["sla_clocks"]} == {"forget"}
    effects = lead["timeline"][-1]["effects"]
    assert effects[0] == "erases the personal values of crm:1"
    assert "clock handoff_review 1 cancelled (erased)" in effects


@pytest.mark.servers
def test_a_parked_lead_says_why(leadlog: Leadlog, database: str) -> None:
    """The rows as they were, and the error."""
    park = "insert into ops.parked (version_no, journey_id, error, detail) values (1, 'crm:1', 'boom', '')"
    asyncio.run(given(database, STORY, park))
    lead = shown(leadlog, "crm:1")
    assert lead["parked"] == "boom"
    assert lead["state"]["stage_role"] == "won"
    assert "PARKED" in leadlog("lead", "crm:1").stdout


@pytest.mark.servers
def test_a_lead_of_nothing_but_faults_has_a_timeline_and_no_state(leadlog: Leadlog, database: str) -> None:
    """Faults are shown, values are not invented."""
    asyncio.run(
        given(database, [r.HandoffRejected(**at(3, "e"), reason_code="no_need", return_to="nurture")])
    )
    lead = shown(leadlog, "crm:1")
    assert lead["state"] is None
    assert [fault["code"] for fault in lead["faults"]] == ["no_open_handoff"]
    assert leadlog("lead", "crm:1").exit_code == 0


@pytest.mark.servers
def test_control_characters_of_events_do_nothing_to_a_terminal(leadlog: Leadlog, database: str) -> None:
    """An escape sequence, a tab or a line break in an id is written out, not obeyed; JSON has it as it is."""
    odd = "\x1b[2Jf\to\nrm\x9b"
    asyncio.run(given(database, [demo_request(5, odd)]))
    text = leadlog("lead", "crm:1").stdout
    assert r"\x1b[2Jf\to\nrm\x9b" in text
    assert text.replace("\n", "").isprintable()
    assert json.dumps(odd) in leadlog("lead", "crm:1", "--json").stdout


@pytest.mark.servers
def test_an_unknown_id_is_refused(leadlog: Leadlog) -> None:
    """The message names the id."""
    result = leadlog("lead", "crm:404")
    assert result.exit_code == 1
    assert "'crm:404'" in result.stderr


@pytest.mark.servers
def test_a_database_without_a_version_is_refused(database: str) -> None:
    """Nothing to show yet is not a crash."""
    result = commands_on(database)("lead", "crm:1")
    assert result.exit_code == 1
    assert "leadlog up" in result.stderr


def test_a_server_that_is_away_gives_exit_code_3() -> None:
    """Commands say what to do when nothing runs."""
    assert commands_on("postgresql://nobody@127.0.0.1:9/none")("lead", "crm:1").exit_code == 3


START = 1_736_121_600_000_000
"""2025-01-06T00:00:00Z."""


def made_up(seed: int, events: int) -> list[r.Record]:
    """Generated events as they reach the log."""
    found: list[r.Record] = []
    for line in lines(Plan(seed, events, None, START, 60, kinds.shares("every"))):
        try:
            found.append(parse_line(line.json, now=r.MAX_INSTANT, may_import=True))
        except Refused:
            continue
    return found


def naive(history: History, rules: Rules) -> dict[tuple[str, tuple[object, ...]], dict[str, str]]:
    """The source of every value, all rows made again after every event; erasures apart."""
    state: JourneyState = journey.fold(History(history.journey_id, [], history.faults, []), rules)
    rows = keyed(state, rules)
    sources: dict[tuple[str, tuple[object, ...]], dict[str, str]] = {}
    for event in history.events:
        journey.step(state, event, rules)
        after = keyed(state, rules)
        for change in changes(rows, after):
            known = sources.setdefault((change.table, change.key), {})
            known.update(dict.fromkeys(change.columns, event.event_id))
        rows = after
    return sources


def test_the_short_cut_of_the_trace_misses_nothing() -> None:
    """Looking only at rows that can have changed finds the same sources as looking at all."""
    rules = Rules([Entry(None, definition.parse(DEFINITION))])
    histories = identity.journeys(made_up(seed=11, events=2_000)).values()
    assert len(histories) > 50
    for history in histories:
        if not history.erased:
            assert trace(history, rules).sources == naive(history, rules)
