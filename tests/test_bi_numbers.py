"""The ready numbers of `bi` beside the same numbers worked out in plain Python from the rows under them.

Guards anchors, filters, months and medians on one generated log that reaches from half a year ago to now.
That the rows under them are right is guarded elsewhere.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from projections import definition
from services.settings import Addresses
from services.store.pool import connect
from services.summary import read_summary
from tests.feeding import DEFINITION, feed, generated, prepare_database
from tests.fresh import drop_database

pytestmark = pytest.mark.servers

DATABASE = "test_bi_numbers"
JOURNEYS = 400
DAYS = 196
"""Whole weeks."""
ZONE = ZoneInfo("Europe/Berlin")
"""That of the default definition's calendar."""
SUCCESS = ("anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won")
SEGMENT = ("segment_kind", "attribute_name", "segment")
SPANS = (7, 30, 90, 180, 365)
CONFIRMED = ("met", "met_logged_late", "breached", "overdue")
SINGLE = {
    *("lead_current", "lead_attribute", "lead_campaign", "lead_money", "lead_progress", "lead_segment"),
    *("stage_visit", "stage_reached", "handoff", "sla_clock", "touch", "campaign_exposure", "opportunity"),
    *("credit", "meeting", "content_request", "fault"),
}
"""Views of single rows, which name the definition that the row was folded by."""
PROMOTED = "default@1"
FOLDED_BEFORE = "default@0"
"""The label of half of the journeys' rows: as while a definition is taken up, journey by journey."""
LABELLED = """
select table_name from information_schema.columns
where table_schema = 'v0001' and column_name = 'definition_version'
"""

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Bi:
    """The rows of every view at one instant, and that instant."""

    now: datetime
    views: dict[str, list[Row]]
    summary: dict[str, Any]

    def __getitem__(self, view: str) -> list[Row]:
        return self.views[view]


@pytest.fixture(scope="module")
def bi(stack: Addresses) -> Bi:
    """What a reader sees of a generated log."""
    return asyncio.run(_made(stack.postgres_dsn))


async def _made(server_dsn: str) -> Bi:
    server = await asyncpg.connect(server_dsn)
    await drop_database(server, DATABASE)
    await server.execute(f"create database {DATABASE}")
    dsn = f"{server_dsn.rpartition('/')[0]}/{DATABASE}"
    connection = await connect(dsn)
    await prepare_database(dsn, connection, DEFINITION)
    await feed(connection, generated(3, JOURNEYS, DAYS))
    for (table,) in await connection.fetch(LABELLED):
        half = f"update v0001.{table} set definition_version = $1 where hashtext(journey_id) % 2 = 0"
        await connection.execute(half, FOLDED_BEFORE)
    summary = await read_summary(connection, ["linear"], None)
    await connection.close()
    now, views = await _read(dsn)
    await drop_database(server, DATABASE)
    await server.close()
    return Bi(now, views, summary)


async def _read(dsn: str) -> tuple[datetime, dict[str, list[Row]]]:
    connection = await asyncpg.connect(dsn)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        now = await connection.fetchval("select now()")
        names = await connection.fetch("select viewname from pg_views where schemaname = 'bi'")
        views = {
            name: [dict(row) for row in await connection.fetch(f"select * from bi.{name}")]
            for (name,) in names
        }
    await connection.close()
    return now, views


def month_of(instant: datetime) -> date:
    return instant.astimezone(ZONE).date().replace(day=1)


def next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def begin_of(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=ZONE)


def by(rows: Iterable[Row], *names: str) -> dict[Key, Row]:
    """Rows by the values of some columns, which must name a row."""
    rows = list(rows)
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)
    return found


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def rate(part: float, whole: float) -> Any:
    return pytest.approx(part / whole) if whole else None


def counted(bi: Bi) -> list[Row]:
    """Every deal once."""
    return [row for row in bi["opportunity"] if row["is_counted"]]


def reached(bi: Bi) -> dict[str, dict[str, datetime]]:
    """Journey to role to when the lead first was there or beyond."""
    found: dict[str, dict[str, datetime]] = defaultdict(dict)
    for visit in bi["stage_visit"]:
        if visit["stage_role"] in SUCCESS:
            for role in SUCCESS[: SUCCESS.index(visit["stage_role"]) + 1]:
                known = found[visit["journey_id"]].get(role, visit["entered_at"])
                found[visit["journey_id"]][role] = min(known, visit["entered_at"])
    return found


def test_the_log_has_what_makes_numbers_differ(bi: Bi) -> None:
    """Open and closed, mature and not, several currencies, shared deals: nothing below is compared empty."""
    assert {row["is_mature"] for row in bi["funnel_conversion"]} == {True, False}
    assert {row["state"] for row in bi["sla_clock"]} >= {*CONFIRMED, "cancelled"}
    assert len({row["currency"] for row in bi["opportunity"]}) > 2
    assert any(row["is_shared"] for row in bi["opportunity"])
    assert {row["kind"] for row in bi["credit"]} == {"win", "adjustment", "reversal"}
    assert {row["is_open"] for row in bi["stage_visit"]} == {True, False}
    empty = {name for name, rows in bi.views.items() if not rows}
    assert empty <= {"definition"}


def test_every_fact_names_its_definition(bi: Bi) -> None:
    """The row's own in views of single rows; the promoted one, and so one row a key, in all that are counted,
    however few journeys are folded by it so far."""
    free = {"lead_subject", "campaign", "campaign_talking_point", "stage_role", "definition"}
    for name, rows in bi.views.items():
        if name not in free:
            found = {row["definition_version"] for row in rows}
            assert found == ({FOLDED_BEFORE, PROMOTED} if name in SINGLE else {PROMOTED}), name


def test_stage_reached(bi: Bi) -> None:
    """The first time in a stage or beyond, for every success stage below the furthest."""
    found: dict[str, dict[str, datetime]] = defaultdict(dict)
    for row in bi["stage_reached"]:
        found[row["journey_id"]][row["stage_role"]] = row["reached_at"]
    assert found == reached(bi)


def test_funnel_conversion(bi: Bi) -> None:
    """Cohorts by the month of first entry; who got further in time; a rate only once all had the time."""
    view = by(bi["funnel_conversion"], "cohort_month", "from_role", "to_role", "within_days")
    entered: Counter[Key] = Counter()
    converted: Counter[Key] = Counter()
    for roles in reached(bi).values():
        for role, at in roles.items():
            entered[month_of(at), role] += 1
            for later in SUCCESS[SUCCESS.index(role) + 1 :]:
                for days in SPANS:
                    if later in roles and roles[later] <= at + timedelta(days=days):
                        converted[month_of(at), role, later, days] += 1
    for (month, role), size in entered.items():
        for later in SUCCESS[SUCCESS.index(role) + 1 :]:
            for days in SPANS:
                row = view.pop((month, role, later, days))
                is_mature = begin_of(next_month(month)).astimezone(UTC) + timedelta(days=days) <= bi.now
                part = converted[month, role, later, days]
                assert (row["entered"], row["converted"], row["is_mature"]) == (size, part, is_mature)
                assert row["conversion"] == (rate(part, size) if is_mature else None)
    assert view == {}


def week_of(instant: datetime) -> date:
    day = instant.astimezone(ZONE).date()
    return day - timedelta(days=day.weekday())


def test_drift_from_what_sales_decided(bi: Bi) -> None:
    """Rejected MQLs, and leads accepted that no rule had made MQLs, by the week of the decision."""
    journeys: dict[date, set[str]] = defaultdict(set)
    rejected: dict[date, set[str]] = defaultdict(set)
    unasked: dict[date, set[str]] = defaultdict(set)
    for row in bi["handoff"]:
        if row["outcome"] in ("accepted", "rejected"):
            journeys[week_of(row["ended_at"])].add(row["journey_id"])
        if row["outcome"] == "rejected":
            rejected[week_of(row["ended_at"])].add(row["journey_id"])
    visits = grouped(bi["stage_visit"], lambda row: (row["journey_id"], row["entered_event_id"]))
    for (journey_id, _), together in visits.items():
        entered = {(row["stage_role"], row["is_inferred"]) for row in together}
        if {("mql", True), ("sql", False)} <= entered:
            week = week_of(together[0]["entered_at"])
            journeys[week].add(journey_id)
            unasked[week].add(journey_id)
    found = by([row for row in bi["definition_drift"] if row["compared_with"] == "sales"], "week")
    assert len(found) > 20
    assert sum(map(len, rejected.values())) > 10
    assert sum(map(len, unasked.values())) > 3
    assert {week for (week,) in found} == set(journeys)
    for week, ids in journeys.items():
        row = found[week,]
        disagreeing = len(rejected[week] | unasked[week])
        assert (row["journeys"], row["mql_here_only"], row["mql_there_only"], row["disagreeing"]) == (
            *(len(ids), len(rejected[week]), len(unasked[week]), disagreeing),
        )
        assert row["share"] == pytest.approx(disagreeing / len(ids))


def test_mql_acceptance(bi: Bi) -> None:
    """By the month of the decision; what is not decided is not part of the share."""
    view = by(bi["mql_acceptance"], "month")
    for month, rows in grouped(
        bi["handoff"], lambda row: month_of(row["ended_at"] or row["opened_at"])
    ).items():
        outcomes = Counter(row["outcome"] or "open" for row in rows)
        row = view.pop((month,))
        for outcome in ("accepted", "rejected", "bypassed", "withdrawn", "open"):
            assert row[outcome] == outcomes[outcome]
        decided = outcomes["accepted"] + outcomes["rejected"]
        assert row["acceptance"] == rate(outcomes["accepted"], decided)
    assert view == {}


def test_win_rate(bi: Bi) -> None:
    """By close date, and beside it of all that were opened in the month."""
    closed = grouped((row for row in counted(bi) if row["closed_at"]), lambda row: month_of(row["closed_at"]))
    opened = grouped((row for row in counted(bi) if row["opened_at"]), lambda row: month_of(row["opened_at"]))
    view = by(bi["win_rate"], "month")
    assert {month for (month,) in view} == closed.keys() | opened.keys()
    for (month,), row in view.items():
        ended = Counter(deal["status"] for deal in closed.get(month, ()))
        cohort = Counter(deal["status"] for deal in opened.get(month, ()))
        assert (row["won"], row["lost"]) == (ended["won"], ended["lost"])
        assert row["win_rate"] == rate(ended["won"], ended.total())
        assert (row["opened_won"], row["opened_lost"], row["opened_open"]) == (
            cohort["won"],
            cohort["lost"],
            cohort["open"],
        )
        assert row["cohort_win_rate"] == rate(cohort["won"], row["opened"])


def test_sla_met(bi: Bi) -> None:
    """Of the clocks due in a month; what runs, is paused or cancelled is shown apart."""
    view = by(bi["sla_met"], "month", "policy_id")
    clocks = grouped(
        bi["sla_clock"],
        lambda row: (month_of(row["due_at"]) if row["due_at"] else None, row["policy_id"]),
    )
    for key, rows in clocks.items():
        states = Counter(row["state"] for row in rows)
        row = view.pop(key)
        met = states["met"] + states["met_logged_late"]
        assert row["clocks"] == sum(states[state] for state in CONFIRMED)
        assert (row["met"], row["running"]) == (met, states["running"] + states["warned"])
        for state in ("met_logged_late", "breached", "overdue", "paused", "cancelled"):
            assert row[state] == states[state]
        assert row["sla_met"] == rate(met, row["clocks"])
    assert view == {}


def test_sla_met_by_owner_says_who(bi: Bi) -> None:
    """Clocks as in sla_met; most begin before anybody has the lead, and stand with who has it now."""
    leads = by(bi["lead_current"], "journey_id")

    def who(row: Row) -> tuple[Any, ...]:
        lead = leads[row["journey_id"],]
        return (
            *(month_of(row["due_at"]) if row["due_at"] else None, row["policy_id"]),
            *(row["team_id"] or lead["team_id"], row["owner_id"] or lead["owner_id"]),
        )

    view = by(bi["sla_met_by_owner"], "month", "policy_id", "team_id", "owner_id")
    clocks = grouped(bi["sla_clock"], who)
    assert view.keys() == clocks.keys()
    for key, rows in clocks.items():
        states = Counter(row["state"] for row in rows)
        assert (view[key]["breached"], view[key]["overdue"]) == (states["breached"], states["overdue"])
        assert view[key]["sla_met"] == rate(states["met"] + states["met_logged_late"], view[key]["clocks"])


def test_rejection_by_reason(bi: Bi) -> None:
    """By month of the decision, each reason's share of what was rejected in it."""
    rejected = [row for row in bi["handoff"] if row["outcome"] == "rejected"]
    view = by(bi["rejection_by_reason"], "month", "reason_code")
    reasons = Counter((month_of(row["ended_at"]), row["reason_code"]) for row in rejected)
    months = Counter(month_of(row["ended_at"]) for row in rejected)
    assert {key: row["rejected"] for key, row in view.items()} == reasons
    assert all(row["share"] == rate(row["rejected"], months[month]) for (month, _), row in view.items())


def test_lead_campaign_has_every_touch_and_exposure_once(bi: Bi) -> None:
    """Who met which campaign, how often and when last; which one pulled the lead in."""
    leads, view = by(bi["lead_current"], "journey_id"), by(bi["lead_campaign"], "journey_id", "campaign_id")
    touches = [row for row in bi["touch"] if row["campaign_id"]]
    met = [(row["journey_id"], row["campaign_id"], row["touched_at"]) for row in touches]
    met += [(row["journey_id"], row["campaign_id"], row["exposed_at"]) for row in bi["campaign_exposure"]]
    assert view.keys() == {(journey, campaign) for journey, campaign, _ in met}
    for (journey, campaign), row in view.items():
        times = sorted(at for *key, at in met if key == [journey, campaign])
        assert (row["first_seen_at"], row["last_seen_at"]) == (times[0], times[-1])
        assert row["exposures"] + row["inbound_touches"] + row["outbound_touches"] == len(times)
        assert row["is_first"] == (leads[journey,]["first_campaign_id"] == campaign)
    assert any(row["is_last_before_mql"] for row in view.values())


def test_velocity(bi: Bi) -> None:
    """Opened x average x win rate / median days, per month and currency."""
    view = by(bi["velocity"], "month", "currency")
    for (month, currency), row in view.items():
        mine = [deal for deal in counted(bi) if deal["currency"] == currency]
        opened = [deal for deal in mine if deal["opened_at"] and month_of(deal["opened_at"]) == month]
        closed = [deal for deal in mine if deal["closed_at"] and month_of(deal["closed_at"]) == month]
        won = [deal for deal in closed if deal["status"] == "won"]
        took = [
            (deal["closed_at"] - deal["opened_at"]) / timedelta(days=1)
            for deal in won
            if deal["opened_at"] and deal["closed_at"] >= deal["opened_at"]
        ]
        assert (row["opened"], row["won"], row["lost"]) == (len(opened), len(won), len(closed) - len(won))
        assert row["measured_wins"] == len(took)
        if not took:
            assert row["velocity_minor_per_day"] is None
            continue
        average = sum(deal["amount_minor"] for deal in won) / len(won)
        expected = len(opened) * average * (len(won) / len(closed)) / median(took)
        assert row["median_days_to_win"] == pytest.approx(median(took))
        assert row["velocity_minor_per_day"] == pytest.approx(expected)
    assert sum(row["won"] for row in view.values()) == sum(row["status"] == "won" for row in counted(bi))


def customers_at(bi: Bi, instant: datetime) -> set[str]:
    return {
        visit["journey_id"]
        for visit in bi["stage_visit"]
        if visit["stage_role"] == "won" and not visit["is_inferred"]
        if visit["entered_at"] <= instant and (visit["left_at"] is None or visit["left_at"] > instant)
    }


class Month(NamedTuple):
    """A month with the customers at its beginning and its end (now, if it is not over)."""

    first: date
    before: set[str]
    after: set[str]
    end: datetime
    is_over: bool


def months_of_customers(bi: Bi) -> Iterator[Month]:
    """The months that begin with customers."""
    first = next_month(min(month_of(row["closed_at"]) for row in bi["opportunity"] if row["status"] == "won"))
    while begin_of(first) <= bi.now:
        ends = begin_of(next_month(first))
        end = min(ends, bi.now)
        if before := customers_at(bi, begin_of(first)):
            yield Month(first, before, customers_at(bi, end), end, ends <= bi.now)
        first = next_month(first)


def test_retention(bi: Bi) -> None:
    """Customers at the beginning of a month that are customers at its end."""
    view = by(bi["retention"], "month")
    for month in months_of_customers(bi):
        row = view.pop((month.first,))
        stayed = len(month.before & month.after)
        assert (row["customers"], row["retained"]) == (len(month.before), stayed)
        assert row["retention"] == (rate(stayed, len(month.before)) if month.is_over else None)
    assert view == {}


def money_at(bi: Bi, journeys: set[str], currency: str, instant: datetime) -> int:
    """What is won and in force, of these customers' deals, counted once."""
    mine = {(row["journey_id"], row["opportunity_id"]) for row in counted(bi)}
    return sum(
        row["amount_minor"]
        for row in bi["credit"]
        if row["model"] == "first" and row["currency"] == currency and row["journey_id"] in journeys
        if (row["journey_id"], row["opportunity_id"]) in mine and row["effective_at"] <= instant
    )


def test_retention_by_money(bi: Bi) -> None:
    """The same customers, weighed with what they had paid for, each currency by itself."""
    view = by(bi["retention_money"], "month", "currency")
    months = {month.first: month for month in months_of_customers(bi)}
    assert {month for month, _ in view} == months.keys()
    for (first, currency), row in view.items():
        month, begin = months[first], begin_of(first)
        stayed = month.before & month.after
        start = money_at(bi, month.before, currency, begin)
        retained = money_at(bi, stayed, currency, begin)
        left = money_at(bi, stayed, currency, month.end)
        assert (row["start_minor"], row["retained_minor"], row["end_minor"]) == (start, retained, left)
        assert row["money_retention"] == (rate(retained, start) if month.is_over else None)
        assert row["net_money_retention"] == (rate(left, start) if month.is_over else None)


def kaplan_meier(durations: list[tuple[float, bool]]) -> float | None:
    """The first duration at which at most half survive; exact, one duration after the other."""
    survival = Fraction(1)
    for at in sorted({seconds for seconds, _ in durations}):
        lasting = sum(seconds >= at for seconds, _ in durations)
        ended = sum(seconds == at and not is_open for seconds, is_open in durations)
        survival *= Fraction(lasting - ended, lasting)
        if survival <= Fraction(1, 2):
            return at
    return None


def test_time_in_stage_summary(bi: Bi) -> None:
    """Medians of what has ended, and of all with open visits censored; few visits are flagged."""
    view = by(bi["time_in_stage_summary"], "stage_role")
    visits = grouped(
        (row for row in bi["stage_visit"] if not row["is_inferred"]), lambda row: row["stage_role"]
    )
    assert {row["is_small"] for row in view.values()} == {True, False}
    for role, rows in visits.items():
        row = view.pop((role,))
        ended = [visit for visit in rows if not visit["is_open"]]
        assert (row["closed_visits"], row["open_visits"]) == (len(ended), len(rows) - len(ended))
        assert row["is_small"] == (len(rows) < 20)
        for kind, suffix in (("calendar", ""), ("business", "_business")):
            seconds = f"{kind}_seconds"
            closed = row[f"closed_median{suffix}_seconds"]
            assert closed == (pytest.approx(median(v[seconds] for v in ended)) if ended else None)
            expected = kaplan_meier([(visit[seconds], visit["is_open"]) for visit in rows])
            assert row[f"median{suffix}_seconds"] == expected
    assert view == {}


def test_credit_by_channel(bi: Bi) -> None:
    """Cohort by the win, ledger by effect; both give the same total, which is what the deals are worth.

    Wins taken back leave no dust of their weights, such as 5.55e-17 deals.
    """
    mine = {(row["journey_id"], row["opportunity_id"]) for row in counted(bi)}
    cohort: Counter[Key] = Counter()
    ledger: Counter[Key] = Counter()
    deals: dict[Key, float] = defaultdict(float)
    for row in bi["credit"]:
        if (row["journey_id"], row["opportunity_id"]) in mine:
            key = (row["model"], row["channel"], row["currency"])
            cohort[month_of(row["won_at"]), *key] += row["amount_minor"]
            ledger[month_of(row["effective_at"]), *key] += row["amount_minor"]
            sign = {"win": 1, "adjustment": 0, "reversal": -1}[row["kind"]]
            deals[month_of(row["won_at"]), *key] += sign * row["weight"]
    view = by(bi["credit_by_channel"], "month", "model", "channel", "currency")
    assert view.keys() == cohort.keys() | ledger.keys()
    for key, row in view.items():
        assert (row["cohort_minor"], row["ledger_minor"]) == (cohort[key], ledger[key])
        assert row["deals"] == round(row["deals"], 9) == pytest.approx(deals[key])
    worth = Counter[str]()
    for deal in counted(bi):
        if deal["status"] == "won":
            worth[deal["currency"]] += deal["amount_minor"] + deal["adjusted_minor"]
    for name in ("cohort_minor", "ledger_minor"):
        for model in {row["model"] for row in view.values()}:
            total = Counter[str]()
            for row in view.values():
                if row["model"] == model:
                    total[row["currency"]] += row[name]
            assert total == worth


def first_inbound(bi: Bi) -> dict[str, str]:
    """Journey to the channel of its first inbound touch."""
    found: dict[str, Row] = {}
    for row in bi["touch"]:
        order = (
            row["touched_at"],
            row["source_sequence"] is not None,
            row["source_sequence"],
            row["event_id"],
        )
        if row["direction"] == "inbound":
            known = found.setdefault(row["journey_id"], row | {"order": order})
            if order < known["order"]:
                found[row["journey_id"]] = row | {"order": order}
    return {journey: row["channel"] for journey, row in found.items()}


def segments(bi: Bi) -> dict[tuple[str, str | None], dict[str, str | None]]:
    """Kind of segment and attribute to journey to its segment."""
    channels = first_inbound(bi)
    found: dict[tuple[str, str | None], dict[str, str | None]] = {
        ("offer", None): {row["journey_id"]: row["first_offer_id"] for row in bi["lead_current"]},
        ("campaign", None): {row["journey_id"]: row["first_campaign_id"] for row in bi["lead_current"]},
        ("channel", None): {row["journey_id"]: channels.get(row["journey_id"]) for row in bi["lead_current"]},
    }
    for name, rows in grouped(bi["lead_attribute"], lambda row: row["name"]).items():
        texts = [row for row in rows if row["number_value"] is None]
        if texts and len({row["value"] for row in texts}) <= 50:
            found["attribute", name] = {row["journey_id"]: row["value"] for row in texts}
    return found


def test_conversion_by_segment(bi: Bi) -> None:
    """How many of those whose days are over got there in time, and how fast, by offer, channel and so on."""
    view = by(bi["conversion_by_segment"], *SEGMENT, "to_role", "within_days")
    roles = reached(bi)
    for (kind, attribute), of_journey in segments(bi).items():
        for segment in set(of_journey.values()):
            mine = [roles[journey] for journey, its in of_journey.items() if its == segment]
            for days in SPANS:
                span = timedelta(days=days)
                mature = [role for role in mine if role["anonymous"] + span <= bi.now]
                for later in SUCCESS[1:]:
                    took = [
                        (role[later] - role["anonymous"]) / timedelta(days=1)
                        for role in mature
                        if later in role and role[later] - role["anonymous"] <= span
                    ]
                    row = view.pop((kind, attribute, segment, later, days))
                    assert (row["leads"], row["immature_leads"]) == (len(mature), len(mine) - len(mature))
                    assert row["converted"] == len(took)
                    assert row["conversion"] == rate(len(took), len(mature))
                    assert row["median_days"] == (pytest.approx(median(took)) if took else None)
    assert view == {}


@pytest.mark.parametrize(
    ("kind", "name"), [("offer", "offer_id"), ("campaign", "campaign_id"), ("channel", "channel")]
)
def test_conversion_by_one_kind_of_segment(bi: Bi, kind: str, name: str) -> None:
    """Offers, campaigns and channels have views of their own, with the same rows."""
    expected = [
        {
            key if key != "segment" else name: value
            for key, value in row.items()
            if key not in ("segment_kind", "attribute_name")
        }
        for row in bi["conversion_by_segment"]
        if row["segment_kind"] == kind
    ]
    order: Callable[[Row], str] = repr
    assert sorted(bi[f"conversion_by_{kind}"], key=order) == sorted(expected, key=order)


def test_dates_are_those_of_the_calendar(bi: Bi) -> None:
    """Every date once, in the calendar's zone, with the time that the calendar is open on it."""
    [calendar] = [row["calendar_id"] for row in bi["calendar"] if row["is_default"]]
    opened: dict[date, float] = defaultdict(float)
    for row in bi["calendar_window"]:
        assert row["calendar_id"] == calendar
        opens, closes = (row[name].astimezone(ZONE) for name in ("opens_at", "closes_at"))
        assert opens.date() == closes.date()
        opened[opens.date()] += (row["closes_at"] - row["opens_at"]).total_seconds()
    rows = sorted(bi["dim_date"], key=lambda row: row["date"])
    for number, row in enumerate(rows):
        today: date = row["date"]
        assert today == rows[0]["date"] + timedelta(days=number)
        assert row["starts_at"] == datetime(today.year, today.month, today.day, tzinfo=ZONE)
        assert number == 0 or rows[number - 1]["ends_at"] == row["starts_at"]
        assert (row["open_seconds"], row["is_business_day"]) == (opened[today], opened[today] > 0)
        assert (row["iso_year"], row["iso_week"], row["weekday"]) == today.isocalendar()
        assert row["week"] == today - timedelta(days=today.weekday())
        assert row["month"] == today.replace(day=1)


def stage_at(bi: Bi, journey_id: str, instant: datetime) -> str:
    [role] = [
        visit["stage_role"]
        for visit in bi["stage_visit"]
        if visit["journey_id"] == journey_id and not visit["is_inferred"]
        if visit["entered_at"] <= instant and (visit["left_at"] is None or visit["left_at"] > instant)
    ]
    return str(role)


def test_meetings_and_requests_know_the_stage(bi: Bi) -> None:
    """The stage of the lead at that time, not the present one."""
    for row in bi["meeting"]:
        assert row["stage_role"] == stage_at(bi, row["journey_id"], row["held_at"])
    for row in bi["content_request"]:
        at = row["requested_at"] or row["delivered_at"]
        assert row["stage_role"] == stage_at(bi, row["journey_id"], at)
        if row["requested_at"]:
            took = (row["delivered_at"] or bi.now) - row["requested_at"]
            assert row["days_open"] == pytest.approx(max(took / timedelta(days=1), 0))


def test_no_view_shows_what_the_definition_calls_personal(bi: Bi) -> None:
    """Personal attributes are not among those of a lead."""
    names = {row["name"] for row in bi["lead_attribute"]}
    assert names
    assert not names & definition.parse(DEFINITION).personal


def test_the_summary_says_what_the_numbers_say(bi: Bi) -> None:
    """The page for people and the views for tools are counted apart and agree."""
    summary = bi.summary
    months = bi["mql_acceptance"]
    decided = sum(row["accepted"] + row["rejected"] for row in months)
    assert summary["acceptance"] == pytest.approx(sum(row["accepted"] for row in months) / decided)
    funnel = {row["stage_role"]: row["reached"] for row in summary["funnel"] if row["stage_role"] in SUCCESS}
    assert funnel == Counter(row["stage_role"] for row in bi["stage_reached"])
    breached = {row["policy_id"]: row["breached"] for row in summary["sla"]}
    for policy, rows in grouped(bi["sla_met"], lambda row: row["policy_id"]).items():
        assert breached[policy] == sum(row["breached"] for row in rows)
    stages = by(bi["time_in_stage_summary"], "stage_role")
    for row in summary["time_in_stage"]:
        for name in ("closed_visits", "open_visits", "closed_median_seconds"):
            assert row[name] == stages[(row["stage_role"],)][name]
    credit: Counter[Key] = Counter()
    for row in bi["credit_by_channel"]:
        if row["model"] == "linear":
            credit[row["channel"], row["currency"]] += row["cohort_minor"]
    assert {(row["channel"], row["currency"]): row["amount_minor"] for row in summary["credit"]} == credit
