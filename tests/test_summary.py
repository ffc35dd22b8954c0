"""`leadlog summary`: all leads on one page, equal to what a count over the events gives."""

import asyncio
import json
from typing import Any

import pytest

from schemas import records as r
from tests.feeding import HUMAN, Leadlog, at, commands_on, demo_request, given

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def leadlog(database: str) -> Leadlog:
    """Runs a command on a database in which the default definition is in force."""
    asyncio.run(given(database, []))
    return commands_on(database)


def lead(number: int) -> list[r.Record]:
    """A lead that asks for a demo."""
    return [demo_request(number / 10, f"form{number}", subject_id=f"crm:{number}")]


def accepted(number: int) -> r.Record:
    """Sales takes it."""
    return r.HandoffAccepted(**at(5, f"yes{number}", f"crm:{number}", actor=HUMAN))


def rejected(number: int) -> r.Record:
    """Sales returns it."""
    envelope = at(5, f"no{number}", f"crm:{number}", actor=HUMAN)
    return r.HandoffRejected(**envelope, reason_code="no_need", return_to="nurture")


def won(number: int, deal: str, amount: int, currency: str) -> r.Record:
    """A deal is won."""
    envelope = at(6, f"won{number}{deal}", f"crm:{number}")
    return r.OpportunityWon(**envelope, opportunity_id=deal, amount_minor=amount, currency=currency)


EVENTS: list[r.Record] = [
    *[event for number in range(6) for event in lead(number)],
    *[accepted(number) for number in (0, 1, 2)],
    rejected(3),
    won(0, "shared", 10_000, "EUR"),
    won(1, "shared", 10_000, "EUR"),
    won(2, "yen", 5_000, "JPY"),
    r.StageChanged(**at(7, "nowhere", "crm:5"), to_stage="Nirvana"),
]


def page(leadlog: Leadlog, *more: str) -> dict[str, Any]:
    """The page as JSON."""
    result = leadlog("summary", "--json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_funnel_counts_journeys(leadlog: Leadlog, database: str) -> None:
    """Who ever reached a stage, skipped stages included, and who is there now; all stages in order."""
    asyncio.run(given(database, EVENTS))
    funnel = {row["stage_role"]: (row["reached"], row["now"]) for row in page(leadlog)["funnel"]}
    assert list(funnel)[:8] == ["anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won"]
    assert funnel["anonymous"] == (6, 0)
    assert funnel["mql"] == (6, 2)
    assert funnel["sql"] == (3, 0)
    assert funnel["won"] == (3, 3)
    assert funnel["nurture"] == (1, 1)
    assert funnel["churned"] == (0, 0)


def test_handoffs_and_clocks_are_counted(leadlog: Leadlog, database: str) -> None:
    """Outcomes with the share accepted, and clocks by policy and state."""
    asyncio.run(given(database, EVENTS))
    summary = page(leadlog)
    assert {row["outcome"]: row["handoffs"] for row in summary["handoffs"]} == {
        "accepted": 3,
        "open": 2,
        "rejected": 1,
    }
    assert summary["acceptance"] == 0.75
    [review] = [row for row in summary["sla"] if row["policy_id"] == "handoff_review"]
    assert (review["met"], review["overdue"], review["clocks"]) == (4, 2, 6)
    assert review["sla_met"] == pytest.approx(4 / 6)
    assert summary["faults"] == [{"code": "unknown_stage", "events": 1}]


def test_time_in_stage_counts_those_still_there(leadlog: Leadlog, database: str) -> None:
    """Six visits of mql, four of them ended after about five hours: that is half of all."""
    asyncio.run(given(database, EVENTS))
    [mql] = [row for row in page(leadlog)["time_in_stage"] if row["stage_role"] == "mql"]
    assert (mql["closed_visits"], mql["open_visits"], mql["is_small"]) == (4, 2, True)
    assert mql["closed_median_seconds"] == pytest.approx((5 - 0.15) * 3600)
    assert mql["median_seconds"] == pytest.approx(4.9 * 3600)


def test_a_date_leaves_out_what_was_before_it(leadlog: Leadlog, database: str) -> None:
    """Each section counts by its own instant from the date on, which begins where the calendar is."""
    later = demo_request(14, "late", subject_id="crm:9")  # Tuesday, one in the morning in Berlin
    asyncio.run(given(database, [*EVENTS, later]))
    summary = page(leadlog, "--since", "2026-03-24")
    assert summary["since"] == "2026-03-24"
    assert {row["stage_role"]: row["reached"] for row in summary["funnel"]}["mql"] == 1
    assert summary["handoffs"] == [{"outcome": "open", "handoffs": 1}]
    assert {row["stage_role"] for row in summary["time_in_stage"]} == {"anonymous", "mql"}
    assert summary["acceptance"] is None
    assert summary["opportunities"] == summary["credit"] == summary["faults"] == []
    assert leadlog("summary", "--since", "2026-03-24").stdout.startswith("All leads since 2026-03-24, by")
    assert leadlog("summary", "--since", "yesterday").exit_code == 2


def test_money_is_kept_apart_by_currency_and_counted_once(leadlog: Leadlog, database: str) -> None:
    """A shared deal is one deal, in deals and in credit; no currency is added to another."""
    asyncio.run(given(database, EVENTS))
    summary = page(leadlog, "--model", "linear")
    deals = [
        (row["status"], row["currency"], row["opportunities"], row["amount_minor"])
        for row in summary["opportunities"]
    ]
    assert deals == [("won", "EUR", 1, 10_000), ("won", "JPY", 1, 5_000)]
    credit = [
        (row["model"], row["channel"], row["currency"], row["amount_minor"]) for row in summary["credit"]
    ]
    assert credit == [("linear", "email", "EUR", 10_000), ("linear", "email", "JPY", 5_000)]


def test_a_model_that_no_definition_has_is_refused(leadlog: Leadlog) -> None:
    """With those that there are; it was an empty table."""
    result = leadlog("summary", "--model", "linear", "--model", "nope")
    assert result.exit_code == 2
    assert "there is no model 'nope': expected one of first, last," in result.stderr


def test_the_page_names_its_definition_and_how_fresh_it_is(leadlog: Leadlog, database: str) -> None:
    """Text for people, amounts with the currency's digits, no colours in a pipe."""
    asyncio.run(given(database, EVENTS))
    text = leadlog("summary").stdout
    assert text.startswith("All leads, by definition default@1\nLast event 2026-03-23 16:00:00 UTC; ")
    assert "Acceptance 75.0%" in text
    assert "5,000 JPY" in text
    assert "\x1b" not in text


def test_an_empty_log_gives_an_empty_page(leadlog: Leadlog) -> None:
    """No leads is not an error."""
    summary = page(leadlog)
    assert summary["acceptance"] is None
    assert {row["reached"] for row in summary["funnel"]} == {0}
    assert leadlog("summary").exit_code == 0


def test_without_a_version_there_is_no_page(database: str) -> None:
    """The way out is named."""
    result = commands_on(database)("summary")
    assert result.exit_code == 1
    assert "leadlog up" in result.stderr
