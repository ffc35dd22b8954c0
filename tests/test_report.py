"""`leadlog report markov`: which journeys are closed, and what is on their paths."""

import asyncio
import csv
import json
from typing import Any

import pytest

from schemas import records as r
from tests.feeding import HUMAN, Leadlog, at, commands_on, given

pytestmark = pytest.mark.servers

DAY = 24


@pytest.fixture
def leadlog(database: str) -> Leadlog:
    """Runs a command on a database with the leads below."""
    asyncio.run(given(database, EVENTS))
    return commands_on(database)


def touch(lead: str, hours: float, channel: str, **more: Any) -> r.Record:
    """An inbound page view unless said otherwise."""
    known: dict[str, Any] = {"touch_type": "page_view", "direction": "inbound", **more}
    return r.TouchRecorded(**at(hours, f"{lead}:{hours}", f"crm:{lead}"), channel=channel, **known)


def won(lead: str, hours: float, deal: str) -> r.Record:
    envelope = at(hours, f"{lead}:won{deal}", f"crm:{lead}", actor=HUMAN)
    return r.OpportunityWon(**envelope, opportunity_id=deal, amount_minor=100, currency="EUR")


def lost(lead: str, hours: float, deal: str) -> r.Record:
    envelope = at(hours, f"{lead}:lost{deal}", f"crm:{lead}", actor=HUMAN)
    return r.OpportunityLost(**envelope, opportunity_id=deal, reason_code="price")


EVENTS: list[r.Record] = [
    # Won after e-mail, then search; what comes after the win is on no path of it.
    *[touch("a", 0, "newsletter"), touch("a", 1, "search"), won("a", 2, "d1"), touch("a", 3, "social")],
    # Won and lost: two deals, two paths; outbound touches are on none.
    *[touch("b", 0, "search"), touch("b", 1, "call", direction="outbound"), won("b", 2, "d2")],
    *[touch("b", 3, "search"), touch("b", 4, "social"), lost("b", 5, "d3")],
    # Shared with lead a: counts there.
    *[touch("c", 1, "fair"), won("c", 2.5, "d1")],
    # Never a deal, and quiet since.
    touch("d", 0, "social"),
    # Never a deal, quiet at first and back after three weeks.
    *[touch("e", 0, "social"), touch("e", 21 * DAY, "search")],
    # Won without a touch.
    won("f", 1, "d4"),
]


def report(leadlog: Leadlog, *arguments: str) -> dict[str, Any]:
    result = leadlog("report", "markov", "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_one_path_per_closed_deal_and_per_quiet_lead(leadlog: Leadlog) -> None:
    """Two wins and a loss with touches, a win without, a quiet lead; whoever came back is not gone yet."""
    found = report(leadlog, "--as-of", "2026-04-15", "--quiet-days", "10", "--order", "2")
    assert (found["order"], found["as_of"], found["quiet_days"]) == (2, "2026-04-15", 10)
    assert found["definition_version"] == "default@1"
    assert (found["paths"], found["conversions"], found["unattributed"]) == (5, 3, 1)
    on_paths = {line["channel"]: (line["paths"], line["conversions"]) for line in found["channels"]}
    assert on_paths == {"email": (1, 1), "search": (3, 2), "social": (2, 0)}
    assert sum(line["credit"] for line in found["channels"]) == pytest.approx(2)


def test_an_earlier_date_knows_what_was_closed_then(leadlog: Leadlog) -> None:
    """Ten days later the lead that came back afterwards was quiet too; on the first day no lead was."""
    quiet = ("--quiet-days", "10")
    assert report(leadlog, "--as-of", "2026-04-03", *quiet)["paths"] == 6
    assert report(leadlog, "--as-of", "2026-03-23", *quiet)["paths"] == 4
    assert report(leadlog, "--as-of", "2026-03-22", *quiet)["channels"] == []


def test_text_and_csv_name_order_and_date(leadlog: Leadlog) -> None:
    """People see it in the first line, programs in every line; credits of a report sum to the wins."""
    options = ("--as-of", "2026-04-15", "--order", "3")
    text = leadlog("report", "markov", *options).stdout
    assert text.startswith("Markov of order 3 as of 2026-04-15, by definition default@1\n")
    assert "not causal lift" in text
    lines = list(csv.DictReader(leadlog("report", "markov", "--csv", *options).stdout.splitlines()))
    assert {(line["order"], line["as_of"]) for line in lines} == {("3", "2026-04-15")}
    assert sum(float(line["credit"]) for line in lines) == pytest.approx(3)


def test_a_channel_that_is_a_formula_is_written_as_text(leadlog: Leadlog, database: str) -> None:
    """It came from a visitor's address, and ran in the spreadsheet of whoever opened the file."""
    asyncio.run(given(database, [touch("g", 0, '=HYPERLINK("http://evil")'), won("g", 1, "d5")]))
    written = leadlog("report", "markov", "--csv", "--as-of", "2026-04-15").stdout
    channels = {line["channel"] for line in csv.DictReader(written.splitlines())}
    assert '\'=HYPERLINK("http://evil")' in channels


def test_without_a_version_there_is_no_report(database: str) -> None:
    """The way out is named."""
    result = commands_on(database)("report", "markov")
    assert result.exit_code == 1
    assert "leadlog up" in result.stderr
