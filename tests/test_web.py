"""The page of both teams: what it shows is what the views say, and it is safe to look at.

Guards numbers, links, what may not be shown, and what is said when there is nothing to show. The numbers
themselves are guarded by test_summary, test_bi and test_lead.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import html5lib
import pytest
import requests
from msgspec import structs

from infra import MIGRATIONS
from projections import definition
from projections.agreement import facts
from schemas import records as r
from services.settings import Addresses
from services.store.migrate import migrate
from services.store.pool import connect
from tests.door import LEADLOG, Door
from tests.feeding import (
    DEFINITION,
    HOUR,
    HUMAN,
    MONDAY_TEN,
    at,
    commands_on,
    demo_request,
    generated,
    given,
    prepare_database,
)

pytestmark = [pytest.mark.servers, pytest.mark.slow]

COMMAND = (LEADLOG, "run", "web", "--port", "0")
HTML = "{http://www.w3.org/1999/xhtml}"
HTML_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z")
SCRIPT = "<script>alert(1)</script>"
FAR_AHEAD = 24 * 365 * 20
"""Hours after the start at which hand-offs of these tests are still to be met."""

EVENTS: list[r.Record] = [
    r.CampaignScheduled(
        **at(0, "plan", "campaign:spring"),
        campaign_id="spring",
        name=f"Spring {SCRIPT}",
        channel="email",
        offer_id="demo_request",
        starts_at=at(0, "")["occurred_at"],
        ends_at=at(500, "")["occurred_at"],
        cost_minor=123_456,
        currency="EUR",
        talking_points=["Ask about their spring"],
        data_points=["31 % fewer lost leads"],
    ),
    r.AttributeChanged(**at(0.1, "mail"), name="email", value="kim@example.com"),
    r.AttributeChanged(**at(0.2, "country"), name="country", value="Sealand"),
    r.TouchRecorded(
        **at(0.3, "visit"),
        touch_type="page_view",
        direction="inbound",
        channel="email",
        properties={"query": "kims-secret"},
    ),
    structs.replace(demo_request(1, f"form {SCRIPT}"), campaign_id="spring"),
    r.SubjectsLinked(**at(1.5, "link"), other_subject_id="web:a/b ?#%7", evidence="identified"),
    r.ContentRequested(
        **at(2, "asked", actor=HUMAN), request_id="req", topic="Prices", asset_type="case_study"
    ),
    r.HandoffAccepted(**at(5, "yes", actor=HUMAN)),
    r.MeetingHeld(
        **at(5.5, "met"),
        meeting_id="m",
        kind="call",
        attendees=["Kim Private"],
        summary="private things",
    ),
    r.OpportunityWon(**at(6, "won"), opportunity_id="deal", amount_minor=10_000, currency="EUR"),
    demo_request(2, "form2", subject_id="crm:2"),
    demo_request(3, "form3", subject_id="crm:3"),
    r.HandoffRejected(**at(5, "no3", "crm:3", actor=HUMAN), reason_code="no_need", return_to="nurture"),
    demo_request(FAR_AHEAD, "form4", subject_id="crm:4", recorded_at=at(FAR_AHEAD, "")["occurred_at"]),
    r.StageChanged(**at(7, "nowhere", "crm:2"), to_stage="Nirvana"),
]


class Page:
    """An answer, and its text as a browser sees it."""

    def __init__(self, answer: requests.Response) -> None:
        self.status, self.headers, self.text, self.url = (
            answer.status_code,
            answer.headers,
            answer.text,
            answer.url,
        )
        parser = html5lib.HTMLParser(strict=True)  # raises for what is not HTML
        self.tree = parser.parse(answer.text)

    def table(self, heading: str) -> list[list[str]]:
        """The cells of the table under a heading, row by row."""
        under: list[list[str]] = []
        is_there = False
        for element in self.tree.iter():
            if element.tag in (f"{HTML}h1", f"{HTML}h2"):
                is_there = _text(element).startswith(heading)
            elif is_there and element.tag == f"{HTML}tbody":
                under += [[_text(cell) for cell in row] for row in element]
        return under

    def links(self) -> Iterator[str]:
        """Where it leads to, with parts of pages."""
        for element in self.tree.iter(f"{HTML}a"):
            yield urljoin(self.url, element.get("href"))

    def times(self) -> Iterator[str]:
        """Its instants, as programs read them."""
        for element in self.tree.iter(f"{HTML}time"):
            yield element.get("datetime")

    def ids(self) -> set[str]:
        """Names of its parts."""
        return {element.get("id") for element in self.tree.iter() if element.get("id")}

    def words(self) -> str:
        """All that is read on it."""
        return _text(self.tree)


def _text(element: Any) -> str:
    return re.sub(r"\s+", " ", " ".join(element.itertext())).strip()


class Web:
    """The process, on a database."""

    def __init__(self, process: Door) -> None:
        self._process = process

    def __call__(self, path: str, **headers: str) -> Page:
        """A page."""
        return Page(requests.get(self._process.url + path, headers=headers, timeout=60))

    def ready(self) -> tuple[int, str]:
        """What `/readyz` answers: status and reasons."""
        answer = requests.get(f"{self._process.url}/readyz", timeout=60)
        return answer.status_code, ", ".join(answer.json()["reasons"])

    def stop(self) -> int:
        """Ends it in order; its exit code."""
        return self._process.stop()


def web_on(stack: Addresses, dsn: str, folder: Path) -> Web:
    """The page of a database; the registry is not asked for events that this release knows."""
    return Web(Door(stack._replace(postgres_dsn=dsn), folder, COMMAND))


@pytest.fixture
def web(stack: Addresses, database: str, tmp_path: Path) -> Iterator[Web]:
    """The page of a database with a few leads."""
    asyncio.run(given(database, EVENTS))
    running = web_on(stack, database, tmp_path)
    yield running
    assert running.stop() == 0


def test_the_overview_has_the_numbers_of_the_summary(web: Web, database: str) -> None:
    """Funnel, SLA, deals and credit, cell by cell; and a date counts there as here."""
    summary = json.loads(commands_on(database)("summary", "--json").stdout)
    page = web("/")
    assert [(row[0], row[2], row[4]) for row in page.table("Funnel")] == [
        (row["stage"], str(row["reached"]), str(row["now"])) for row in summary["funnel"]
    ]
    assert [row[3] for row in page.table("Service levels")] == [str(row["met"]) for row in summary["sla"]]
    assert page.table("Opportunities") == [["won", "1", "100.00 EUR", "0.00 EUR"]]
    assert page.table("Credit") == [["email", *["100.00 EUR"] * 3]]
    assert page.table("Hand-offs") == [["2026-03", "", "50.0%", "1", "1"]]
    assert page.table("Events without effect") == [["unknown stage", "1"]]
    assert "Acceptance 50.0%" in page.words()
    assert "by definition default@1" in page.words()
    later = web("/?since=2030-01-01")
    assert [row[2] for row in later.table("Funnel")][:4] == ["1"] * 4
    assert later.table("Hand-offs") == [["no decision yet"]]


def test_a_date_within_a_month_counts_in_the_table_by_month_too(web: Web, database: str) -> None:
    """The month of the date has only the decisions from it on, as the line above the table."""
    later: list[r.Record] = [
        demo_request(30, "form6", subject_id="crm:6"),
        r.HandoffAccepted(**at(31, "yes6", "crm:6", actor=HUMAN)),
    ]
    asyncio.run(given(database, later))
    assert web("/?since=2026-03-23").table("Hand-offs") == [["2026-03", "", "66.7%", "2", "1"]]
    page = web("/?since=2026-03-24")
    assert page.table("Hand-offs") == [["2026-03", "", "100.0%", "1", "0"]]
    assert "Acceptance 100.0%" in page.words()


def test_what_was_counted_is_given_again_for_a_while(web: Web, database: str) -> None:
    """The same answer at once, a new one soon after; another question is counted by itself."""
    began = time.monotonic()
    first = web("/conversion")
    took = time.monotonic() - began
    assert web("/conversion").text == first.text
    assert web("/conversion?days=30").text != first.text
    asyncio.run(given(database, [demo_request(8, "new", subject_id="crm:9")]))
    time.sleep(10 * took)
    assert web("/conversion").text != first.text


def test_every_link_leads_somewhere(web: Web) -> None:
    """From the overview to all pages: each is HTML, its times too, and has the part that a link names."""
    pages: dict[str, Page] = {}
    parts: set[tuple[str, str]] = set()
    waiting = [web("/").url, *map(urljoin, [web("/").url] * 2, ["/leads", "/conversion?by=campaign&to=mql"])]
    while waiting:
        address = waiting.pop()
        if address in pages:
            continue
        pages[address] = Page(requests.get(address, timeout=60))
        for link in pages[address].links():
            where, _, part = link.partition("#")
            parts |= {(where, part)} if part else set()
            waiting.append(where)
    assert {page.status for page in pages.values()} == {200}
    assert [time for page in pages.values() for time in page.times() if not HTML_TIME.fullmatch(time)] == []
    found = {urlsplit(address).path for address in pages}
    assert found >= {
        *("/", "/leads", "/handoffs", "/clocks", "/deals", "/credit", "/conversion", "/campaigns"),
        *("/definition", "/lead/crm%3A1"),
    }
    assert parts
    assert [part for where, part in parts if part not in pages[where].ids()] == []


def numbers(page: Page) -> Iterator[tuple[int, str]]:
    """The numbers of a page that lead to a list, and where."""
    for element in page.tree.iter(f"{HTML}a"):
        if found := re.fullmatch(r"([\d,]+)( [a-z ]+)?", _text(element)):
            yield int(found[1].replace(",", "")), element.get("href")


LISTS = ("Leads", "Hand-offs", "Clocks", "Deals")
COUNTED = "lead|wait|accepted|rejected|bypassed|withdrawn|clock|deal"


def listed(web: Web, path: str) -> tuple[int, int]:
    """How many a list says that there are, and how many rows it has on all its pages."""
    rows, page_no = 0, 1
    while True:
        page = web(f"{path}&page={page_no}")
        found = [row for name in LISTS for row in page.table(name) if len(row) > 1]
        rows, page_no = rows + len(found), page_no + 1
        said = re.search(rf"([\d,]+) ({COUNTED})s?\b[,.]", page.words())
        assert said
        if "Older" not in page.words():
            return int(said[1].replace(",", "")), rows


def test_a_number_leads_to_as_many_rows(web: Web, database: str) -> None:
    """Funnel, hand-offs, months, reasons, service levels and deals of the overview, of everything and from a
    date on: every number that has a link is that of the list behind it."""
    asyncio.run(given(database, list(generated(3, 120, 98))))
    middle = date.today() - timedelta(days=45)
    seen = {path: list(numbers(web(path))) for path in ("/", f"/?since={middle}")}
    assert [len(found) > 60 for found in seen.values()] == [True, True]
    assert seen["/"][0][0] > seen[f"/?since={middle}"][0][0] > 0
    for number, link in chain(*seen.values()):
        assert listed(web, link) == (number, number), link


def test_credit_of_a_channel_is_that_of_its_deals(web: Web, database: str) -> None:
    """Each amount of the overview leads to touches and deals of that sum."""
    asyncio.run(given(database, list(generated(3, 120, 98))))
    found = [
        (_text(element), element.get("href"))
        for element in web("/").tree.iter(f"{HTML}a")
        if element.get("href").startswith("/credit?")
    ]
    assert len({link for _, link in found}) > 10
    for amount, link in found:
        assert f"of credit, {amount} together" in web(link).words()


def test_service_levels_are_told_by_team_and_owner(web: Web, database: str) -> None:
    """Of a clock that began before anybody had the lead: by who has it now."""
    assigned = r.LeadAssigned(**at(30, "hers", "crm:2"), owner_id="ann", team_id="north")
    asyncio.run(given(database, [assigned]))
    page = web("/clocks?policy=first_contact&owner=ann")
    assert page.table("By team and owner") == [["north", "ann", "", "0.0%", "0", "0", "1"]]
    assert [(row[2], row[3]) for row in page.table("Clocks")] == [("overdue", "crm:2")]
    assert web("/clocks?state=paused").table("Clocks") == [["no clock is like that"]]


def test_a_lead_stands_beside_the_talking_points_of_its_campaigns(web: Web) -> None:
    """Sales had to look each campaign up in the calendar before a call."""
    words = web("/lead/crm%3A1").words()
    assert f"Spring {SCRIPT} pulled it in last before MQL" in words
    assert "Ask about their spring" in words


def test_a_lead_is_found_by_any_of_its_ids(web: Web) -> None:
    """A subject id with odd characters, an event id, and by what was typed; else ids that begin so."""
    for some_id in ("crm%3A1", "web%3Aa%2Fb%20%3F%23%257", "won"):
        page = web(f"/lead/{some_id}")
        assert page.status == 200
        assert "Known as crm:1, web:a/b ?#%7" in page.words()
    assert unquote(web("/find?id=+web:a/b+%3F%23%257+").url).endswith("/lead/web:a/b ?#%7")
    unknown = web("/lead/crm%3A")
    assert unknown.status == 404
    assert "No subject, journey or event has the id 'crm:'" in unknown.words()
    assert "crm:1 crm:2 crm:3 crm:4" in unknown.words()


def test_a_lead_says_what_happened_and_what_it_led_to(web: Web) -> None:
    """Offer and campaign, timeline with effects, the event behind a value, meetings and requests."""
    page = web("/lead/crm%3A1")
    assert "Pulled in by demo_request spring" in page.words()
    happened = {row[5]: row for row in page.table("What happened")}
    assert "opportunity deal won, 100.00 EUR" in happened["won"][3]
    assert page.table("Opportunities")[0][-1] == "won"
    assert page.table("Meetings")[0][1] == "call"
    assert [row[0] for row in page.table("Content")] == ["Prices"]
    assert page.table("Hand-offs")[0][0] == "accepted"


def test_what_is_personal_is_not_shown(web: Web) -> None:
    """Attributes that the definition calls personal, and what people said or sent; the others are there."""
    page = web("/lead/crm%3A1").text
    assert "Sealand" in page
    for private in ("kim@example.com", "kims-secret", "Kim Private", "private things"):
        assert private not in page


def test_what_people_wrote_is_text_and_nothing_foreign_is_loaded(web: Web) -> None:
    """Markup in names and ids is shown as it was sent; the browser is told to run and keep nothing."""
    for path in ("/campaigns", "/lead/crm%3A1", "/handoffs", "/lead/%3Cscript%3E"):
        page = web(path)
        assert f"{HTML}script" not in {element.tag for element in page.tree.iter()}
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
    assert f"Spring {SCRIPT}" in web("/campaigns").words()
    assert requests.get(web("/").url, headers={"Host": "evil.example"}, timeout=60).status_code == 400
    assert web("/leads/").status == 404  # sent on, it went from a proxy's HTTPS to HTTP


def test_what_can_still_be_met_comes_first(web: Web, database: str) -> None:
    """Of the open hand-offs those due in the future, then those whose clocks have ended (they stood behind
    all overdue ones), then the overdue. Owner is who has the lead now, not who had it at the opening."""
    called = r.TouchRecorded(
        **at(2.5, "call", "crm:5", actor=HUMAN), touch_type="call", direction="outbound", channel="phone"
    )
    assigned = r.LeadAssigned(**at(3, "hers", "crm:5"), owner_id="ann", team_id="north")
    without_review = "delete from v0001.sla_clock where journey_id = 'crm:5' and policy_id = 'handoff_review'"
    events: list[r.Record] = [demo_request(2, "form5", subject_id="crm:5"), called, assigned]
    asyncio.run(given(database, events, without_review))
    page = web("/handoffs")
    rows = page.table("Hand-offs that wait")
    assert [(row[2], row[0].endswith("late"), row[4], row[5]) for row in rows] == [
        ("crm:4", False, "", ""),
        ("crm:5", False, "ann", "north"),
        ("crm:2", True, "", ""),
    ]
    assert (rows[0][0][:3], rows[1][0]) == ("in ", "")
    assert "3 wait." in page.words()
    for narrowed in ("owner=ann", "team=north"):
        assert [row[2] for row in web(f"/handoffs?{narrowed}").table("Hand-offs that wait")] == ["crm:5"]
    assert web("/handoffs?owner=nobody").table("Hand-offs that wait") == [["nothing waits"]]


def test_lists_are_narrowed_and_turned(web: Web) -> None:
    """Leads by stage and offer; a page after the last is empty."""
    assert [row[0] for row in web("/leads?stage=nurture").table("Leads")] == ["crm:3"]
    assert [row[0] for row in web("/leads?offer=demo_request&handoff=accepted").table("Leads")] == ["crm:1"]
    assert web("/leads?page=2").table("Leads") == [["no lead is like that"]]


def test_talking_points_and_conversion_are_shown(web: Web) -> None:
    """A campaign with what sales should say and its cost; which campaign brought leads that were won."""
    said = web("/campaigns").words()
    for part in ("Ask about their spring", "31 % fewer lost leads data", "cost 1,234.56 EUR"):
        assert part in said
    rows = web("/conversion?by=campaign&to=won&days=90").table("What brings")
    assert ["spring few", "", "100.0%", "1", "1", "0.2", "0"] in rows


def test_a_campaign_with_an_open_end_stands_among_those_under_way(web: Web, database: str) -> None:
    """By its start, before what is over, and it says that it has no end."""
    always = r.CampaignScheduled(
        **at(0, "always", "campaign:always"),
        campaign_id="always",
        name="Always on",
        channel="email",
        starts_at=MONDAY_TEN,
    )
    asyncio.run(given(database, [always]))
    said = web("/campaigns").words()
    assert said.index("Always on running") < said.index(f"Spring {SCRIPT} over")
    assert "from 2026-03-23 11:00 , open end" in said


def test_the_definition_is_told_in_the_language_of_the_trade(web: Web, database: str) -> None:
    """Each version with who decided what, and what it changes against the one before; the latest first."""
    first = definition.parse(DEFINITION)
    second = definition.parse(
        DEFINITION.replace("version: 1", "version: 2", 1).replace("target: 24h", "target: 48h", 1)
    )
    when = MONDAY_TEN + 24 * HOUR
    said: list[r.Record] = [
        facts.proposed(first, "A start", HUMAN, when),
        facts.proposed(second, "They answer later", HUMAN, when + 1),
        facts.approved("default", 2, "marketing", r.Actor("human", "mia"), when + 2),
    ]
    asyncio.run(given(database, said))
    words = web("/definition").words()
    assert words.index("default@2 proposed") < words.index("default@1 in force")
    assert "Proposed by sam, 2026-03-24 11:00 : They answer later" in words
    assert "Marketing: approved by mia, 2026-03-24 11:00 . Sales: not approved yet" in words
    assert "first_contact is now due after 48 hours instead of 24" in words
    assert web("/definition").table("When to revisit")[0][1] == "sales"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/?since=yesterday", "expected one such as 2026-01-31"),
        ("/leads?page=0", "expected a number from 1"),
        ("/leads?stage=nirvana", "expected one of anonymous, known"),
        ("/leads?handoff=nope", "expected one of none, open, accepted"),
        ("/conversion?to=nirvana", "expected one of known, engaged"),
        ("/conversion?to=lost", "opportunity, won."),
        ("/conversion?days=8", "expected one of 7, 30"),
        ("/conversion?order=luck", "expected one of most leads, best conversion, fastest"),
        ("/clocks?policy=nope", "expected one of first_contact"),
        ("/credit?model=nope", "expected one of first"),
        ("/handoffs?until=tomorrow", "expected one such as 2026-01-31"),
        (f"/leads?page={'9' * 5_000}", "expected a number from 1"),
        ("/leads?owner=%00", "with such a character"),
        ("/lead/%00%ff", "with such a character"),
    ],
)
def test_what_is_not_understood_is_told(web: Web, path: str, expected: str) -> None:
    """What was found and what was expected, as a page."""
    page = web(path)
    assert page.status == 400
    assert expected in page.words()


async def promote_first(dsn: str) -> None:
    """Makes the first version."""
    connection = await connect(dsn)
    await prepare_database(dsn, connection, DEFINITION)
    await connection.close()


def test_before_the_first_definition_it_says_so(stack: Addresses, database: str, tmp_path: Path) -> None:
    """No traceback, not ready; and once there is one, the same process shows it."""
    asyncio.run(migrate(database, MIGRATIONS))
    web = web_on(stack, database, tmp_path)
    status, reasons = web.ready()
    assert (status, "No definition is in use yet" in reasons) == (503, True)
    assert "No definition is in use yet" in web("/").words()
    asyncio.run(promote_first(database))
    assert web.ready() == (200, "")
    assert web("/").status == 200
    assert web.stop() == 0


async def leave_to_another_release(dsn: str) -> None:
    """Makes a view as a release might have that called a column otherwise."""
    connection = await connect(dsn)
    await connection.execute("alter view bi.data_freshness rename column lag_seconds to lag")
    await connection.close()


def test_it_is_ready_only_while_its_pages_are(web: Web, database: str) -> None:
    """`/readyz` asked for the promoted version only, and said yes while a view of another release let every
    page answer 503; its no was a page too, which `leadlog doctor` could not read."""
    asyncio.run(leave_to_another_release(database))
    page, (status, reasons) = web("/campaigns"), web.ready()
    assert (page.status, status) == (503, 503)
    assert "built by another release" in reasons
    assert reasons.replace(": ", " ", 1) in page.words()


def test_without_postgres_it_says_so(stack: Addresses, tmp_path: Path) -> None:
    """The reason on every page, and not ready; the password is not part of it."""
    nowhere = "postgresql://leadlog:geheim@127.0.0.1:9/leadlog"
    for dsn, reason in ((nowhere, "does not answer"), (f"{stack.postgres_dsn}_no", "lets nobody in")):
        web = web_on(stack, dsn, tmp_path)
        assert web.ready()[0] == 503
        page = web("/leads")
        assert (page.status, f"Postgres {reason}" in page.words()) == (503, True)
        assert "geheim" not in page.text
        assert web.stop() == 0
