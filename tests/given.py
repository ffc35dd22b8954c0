"""Given these events, when this happens, then the rows are those: specs of the fold that read as sentences.

Promises: every spec is folded in three ways (whole; continued from a packed state after each event; found
again among all copies, shuffled and doubled), which must agree before a row is looked at. Instants are
written `mon 09:00`, or `mon+2 09:00` two weeks later, in a week without change of clocks; an event is named
by what it is and when, as in `touch mon 09:00`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from projections import identity, journey
from projections.definition import parse
from projections.history import History
from projections.rules import Entry, Rules
from schemas import records as r

HOUR = 3_600_000_000
DAY = 24 * HOUR
MONDAY = 1_780_272_000_000_000
"""2026-06-01T00:00:00Z."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PERSON = r.Actor("human", "user:7")
MACHINE = r.Actor("system")
IMPORT = r.Actor("import")
LEAD = "crm:1"

DEFINITION = """
definition_id: house
version: 1
rationale: "small, for specs"
calendar: office
stages:
  - {name: Visitor, role: anonymous}
  - {name: Known, role: known}
  - {name: Engaged, role: engaged, enter: {score_at_least: 10}}
  - {name: MQL, role: mql, enter: {touch: {offer_id: demo, direction: inbound, at_least: 1}}}
  - {name: SAL, role: sal}
  - {name: SQL, role: sql}
  - {name: Opportunity, role: opportunity}
  - {name: Customer, role: won}
  - {name: Recycled, role: recycled}
  - {name: Nurture, role: nurture}
  - {name: Disqualified, role: disqualified}
  - {name: Lost, role: lost}
  - {name: Churned, role: churned}
scoring:
  - {touch_type: page_view, points: 5, expires_after: 7d}
  - {touch_type: content_downloaded, points: 10}
handoff:
  reject_reasons: [no_need, no_budget, other]
calendars:
  office:
    zone: UTC
    weekly:
      mon: [["09:00", "17:00"]]
      tue: [["09:00", "17:00"]]
      wed: [["09:00", "17:00"]]
      thu: [["09:00", "17:00"]]
      fri: [["09:00", "17:00"]]
    holidays: ["2026-06-04"]
sla:
  - id: review
    start: [{entered: mql}]
    stop: [{record: HandoffAccepted}, {record: HandoffRejected}, {entered: sql}]
    target: 4h
    time: business
    calendar: office
    warn_at: [0.5, 0.8]
  - id: contact
    start: [{entered: mql}]
    stop: [{record: TouchRecorded, direction: outbound, actor: human}]
    target: 24h
    time: calendar
    max_pause: 6h
channels:
  - {match: {channel: newsletter}, channel: email}
attribution:
  lookback: 30d
  touches: {direction: inbound, touch_type: [page_view, form_submitted, content_downloaded]}
  models:
    - {id: first}
    - {id: last}
    - {id: linear}
    - {id: w30}
personal: [email]
"""


def rules(text: str = DEFINITION, *calendars: r.CalendarChanged) -> Rules:
    """The rules of one definition for the whole of history."""
    return Rules([Entry(None, parse(text))], calendars)


HOUSE = rules()


def at(instant: str) -> r.Micros:
    """`tue 14:30` or `tue+1 14:30` as microseconds."""
    day, clock = instant.split(" ")
    name, _, weeks = day.partition("+")
    hours, minutes = clock.split(":")
    days = DAYS.index(name) + 7 * int(weeks or 0)
    return MONDAY + days * DAY + int(hours) * HOUR + int(minutes) * HOUR // 60


def envelope(kind: str, when: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The first fields of a record, which `fields` may override; id, by and late are given as the spec says
    it."""
    occurred_at = at(when)
    return {
        "event_id": fields.pop("id", f"{kind} {when}"),
        "subject_id": fields.pop("subject", LEAD),
        "occurred_at": occurred_at,
        "recorded_at": at(fields.pop("recorded", when)),
        "source": "spec",
        "actor": fields.pop("by", MACHINE),
        **fields,
    }


def touch(when: str, **fields: Any) -> r.TouchRecorded:
    """An inbound page view unless said otherwise."""
    known = {"touch_type": "page_view", "direction": "inbound", "channel": "web", **fields}
    return r.TouchRecorded(**envelope("touch", when, known))


def demo(when: str, **fields: Any) -> r.TouchRecorded:
    """The form that makes a lead an MQL."""
    return touch(when, **{"touch_type": "form_submitted", "offer_id": "demo", "id": f"demo {when}", **fields})


def exposed(when: str, **fields: Any) -> r.CampaignExposed:
    known = {"campaign_id": "spring", "exposure_type": "impression", "channel": "display", **fields}
    return r.CampaignExposed(**envelope("exposed", when, known))


def attribute(when: str, name: str, value: str | float | bool | None, **fields: Any) -> r.AttributeChanged:
    return r.AttributeChanged(**envelope("attribute", when, {"name": name, "value": value, **fields}))


def moved(when: str, to: str, why: str | None = None, **fields: Any) -> r.StageChanged:
    known = {"to_stage": to, "reason_code": why, "by": PERSON, **fields}
    return r.StageChanged(**envelope("moved", when, known))


def assigned(when: str, owner: str, team: str | None = None, **fields: Any) -> r.LeadAssigned:
    return r.LeadAssigned(**envelope("assigned", when, {"owner_id": owner, "team_id": team, **fields}))


def accepted(when: str, **fields: Any) -> r.HandoffAccepted:
    return r.HandoffAccepted(**envelope("accepted", when, {"by": PERSON, **fields}))


def rejected(
    when: str, why: str = "no_need", return_to: str = "recycled", **fields: Any
) -> r.HandoffRejected:
    known = {"reason_code": why, "return_to": return_to, "by": PERSON, **fields}
    return r.HandoffRejected(**envelope("rejected", when, known))


def paused(when: str, policy: str | None = None, **fields: Any) -> r.ClockPaused:
    return r.ClockPaused(**envelope("paused", when, {"policy_id": policy, "reason_code": "ill", **fields}))


def resumed(when: str, policy: str | None = None, **fields: Any) -> r.ClockResumed:
    return r.ClockResumed(**envelope("resumed", when, {"policy_id": policy, "reason_code": "well", **fields}))


def opened(when: str, deal: str = "deal", **fields: Any) -> r.OpportunityOpened:
    return r.OpportunityOpened(**envelope("opened", when, {"opportunity_id": deal, **fields}))


def changed(when: str, deal: str = "deal", **fields: Any) -> r.OpportunityChanged:
    return r.OpportunityChanged(**envelope("changed", when, {"opportunity_id": deal, **fields}))


def won(when: str, amount: int = 1000, deal: str = "deal", **fields: Any) -> r.OpportunityWon:
    known = {"opportunity_id": deal, "amount_minor": amount, "currency": "EUR", **fields}
    return r.OpportunityWon(**envelope("won", when, known))


def lost(when: str, deal: str = "deal", why: str = "price", **fields: Any) -> r.OpportunityLost:
    return r.OpportunityLost(**envelope("lost", when, {"opportunity_id": deal, "reason_code": why, **fields}))


def reopened(when: str, deal: str = "deal", **fields: Any) -> r.OpportunityReopened:
    known = {"opportunity_id": deal, "reason_code": "second thoughts", **fields}
    return r.OpportunityReopened(**envelope("reopened", when, known))


def adjusted(when: str, delta: int, deal: str = "deal", **fields: Any) -> r.RevenueAdjusted:
    known = {"opportunity_id": deal, "delta_minor": delta, "currency": "EUR", "effective_at": at(when)}
    return r.RevenueAdjusted(**envelope("adjusted", when, {**known, "reason_code": "refund", **fields}))


def renewed(when: str, **fields: Any) -> r.CustomerRenewed:
    return r.CustomerRenewed(**envelope("renewed", when, fields))


def churned(when: str, **fields: Any) -> r.CustomerChurned:
    return r.CustomerChurned(**envelope("churned", when, fields))


def linked(when: str, other: str, evidence: str = "identified", **fields: Any) -> r.SubjectsLinked:
    known = {"other_subject_id": other, "evidence": evidence, **fields}
    return r.SubjectsLinked(**envelope("linked", when, known))


def unlinked(when: str, link: str, **fields: Any) -> r.SubjectsUnlinked:
    known = {"link_event_id": link, "reason_code": "mistake", **fields}
    return r.SubjectsUnlinked(**envelope("unlinked", when, known))


def retracted(when: str, target: str, **fields: Any) -> r.EventRetracted:
    known = {"target_event_id": target, "reason_code": "mistake", **fields}
    return r.EventRetracted(**envelope("retracted", when, known))


def erased(when: str, **fields: Any) -> r.SubjectErased:
    return r.SubjectErased(**envelope("erased", when, {"request_id": "request", **fields}))


def calendar(when: str, weekly: dict[str, list[list[str]]], **fields: Any) -> r.CalendarChanged:
    """From then on the office is open in these windows."""
    known = {"calendar_id": "office", "zone": "UTC", "weekly": weekly, "subject": "office", **fields}
    return r.CalendarChanged(**envelope("calendar", when, known))


Cells = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """Events of a lead, and the rules that they are folded by."""

    events: tuple[r.Envelope, ...]
    rules: Rules = HOUSE

    def under(self, rules: Rules) -> "Spec":
        """The same events under other rules."""
        return replace(self, rules=rules)

    def when(self, *events: r.Envelope) -> "Spec":
        """What happens next."""
        return replace(self, events=(*self.events, *events))

    def then(self, table: str, *expected: Cells) -> None:
        """The table has exactly these rows, in the order of its key, as far as columns are named."""
        found = self.table(table)
        shown = [{name: row[name] for name in cells} for row, cells in zip(found, expected, strict=False)]
        assert shown == list(expected)
        assert len(found) == len(expected), found[len(expected) :]

    def then_lead(self, **expected: Any) -> None:
        """The lead's row has these values."""
        self.then("lead_state", expected)

    def table(self, name: str) -> list[Cells]:
        """The rows of a table as column to value, by key."""
        known = next(table for table in journey.TABLES if table.name == name)
        rows = [dict(zip(known.columns, row, strict=True)) for row in self.rows()[name]]
        return sorted(rows, key=lambda row: tuple(row[column] for column in known.key))

    def rows(self) -> journey.Rows:
        """The rows of all journeys of the events, after making sure that other ways to them give the same."""
        whole = self._folded(self.events)
        twice = list(self.events) * 2
        Random(len(twice)).shuffle(twice)
        assert by_table(self._folded(twice)) == by_table(whole)
        return whole

    def _folded(self, copies: Iterable[r.Envelope]) -> journey.Rows:
        found: journey.Rows = {table.name: [] for table in journey.TABLES}
        for history in identity.journeys(copies).values():
            rows = journey.project(history, self.rules)
            assert by_table(rows) == by_table(continued(history, self.rules))
            for name in found:
                found[name] += rows[name]
        return found


def given(*events: r.Envelope) -> Spec:
    """What happened so far."""
    return Spec(events)


def by_table(rows: journey.Rows) -> dict[str, set[tuple[object, ...]]]:
    """Rows without order, to compare."""
    return {name: set(of_table) for name, of_table in rows.items()}


def continued(history: History, rules: Rules) -> journey.Rows:
    """The rows when the state is packed away after every event and taken up again."""
    state = journey.fold(History(history.journey_id, [], history.faults, history.erased), rules)
    shown: journey.Rows = {table.name: [] for table in journey.EVENT_TABLES}
    for event in history.events:
        state = journey.unpack(journey.pack(state))
        journey.step(state, event, rules)
        journey.rows(state, rules)
        for name, rows in journey.event_rows(history.journey_id, [event], rules).items():
            shown[name] += rows
    return journey.rows(state, rules) | shown
