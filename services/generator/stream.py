"""The stream of lines: journeys begin over time, are disturbed, sorted by arrival and written.

Promises: `lines(plan)` is a function of the plan, byte for byte; memory does not grow with the size.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

import msgspec

from schemas.instants import EPOCH, iso_date
from schemas.records import Micros
from services.generator import market
from services.generator.arrival import Arrivals, Line
from services.generator.chance import DAY, WEEK, Chance, awake
from services.generator.kinds import ADDING, BIT, Shares
from services.generator.mishaps import Mishaps
from services.generator.story import MARKETING, Body, Event, tell

INSTANTS_OF: dict[str, tuple[str, ...]] = {
    "HandoffRejected": ("recycle_until",),
    "RevenueAdjusted": ("effective_at",),
    "CampaignScheduled": ("starts_at", "ends_at"),
}
"""The instants of a record beside those of the envelope."""
EVENTS_OF_A_JOURNEY = 15.5
"""Mean number of a clean journey's events, used only to spread a wanted number of events over the days."""
LINES_OF_A_BUCKET = 20_000
"""So many lines are sorted at once."""
ENDLESS_EVENTS = 100_000
"""A stream without end is as dense as one of so many events."""

_encode = msgspec.json.Encoder().encode


class Plan(NamedTuple):
    """What to generate: so many events, or so many whole journeys, begun over `days` days from `start`."""

    seed: int
    events: int | None
    journeys: int | None
    start: Micros
    days: int
    shares: Shares


def lines(plan: Plan) -> Iterator[Line]:
    """The plan's lines in order of arrival. The first `plan.events` of an endless stream if that is given."""
    return islice(_all_lines(plan), plan.events)


def _all_lines(plan: Plan) -> Iterator[Line]:
    chance = Chance(plan.seed)
    mishaps = Mishaps(chance, plan.shares)
    gap = plan.days * DAY / _journeys(plan)
    facts_until = plan.start // WEEK - 1
    with Arrivals(int(LINES_OF_A_BUCKET / EVENTS_OF_A_JOURNEY * gap)) as arrivals:
        number, begins = 0, float(plan.start)
        while plan.journeys is None or number < plan.journeys:
            begins += gap * 2 * chance.draw()
            number += 1
            while facts_until <= begins // WEEK:
                facts_until += 1
                for fact in reference_facts(facts_until, chance, plan):
                    arrivals.put(Line(max(fact.arrival, int(begins)), fact.kinds, 0, to_json(fact.body)))
            for story in tell(number, awake(int(begins), chance), chance, plan.shares):
                _put(arrivals, mishaps.disturb(story), int(begins))
            yield from arrivals.until(int(begins))
        yield from arrivals.rest()


def _journeys(plan: Plan) -> float:
    if plan.journeys is not None:
        return max(1, plan.journeys)
    own = 1 - sum(plan.shares[kind] for kind in ADDING)
    return max(1.0, (plan.events or ENDLESS_EVENTS) * own / EVENTS_OF_A_JOURNEY)


def _put(arrivals: Arrivals, events: list[Event], begins: Micros) -> None:
    events[0].kinds |= BIT["journey"]
    seen = 0
    for event in events:
        arrivals.put(Line(max(event.arrival, begins), event.kinds, event.kinds & ~seen, to_json(event.body)))
        seen |= event.kinds


def to_json(body: Body) -> bytes:
    """A body as a line of the contract: instants as RFC 3339. Changes the body."""
    body["occurred_at"] = EPOCH + timedelta(0, 0, body["occurred_at"])
    body["recorded_at"] = EPOCH + timedelta(0, 0, body["recorded_at"])
    for name in INSTANTS_OF.get(body["record"], ()):
        if name in body:
            body[name] = EPOCH + timedelta(0, 0, body[name])
    return _encode(body)


def reference_facts(week: int, chance: Chance, plan: Plan) -> list[Event]:
    """What is announced in a week: the campaign that starts after ANNOUNCED, corrections, holidays."""
    campaign = market.campaign(week + market.ANNOUNCED // WEEK)
    moment = max(plan.start, campaign.starts_at - market.ANNOUNCED)
    body = _fact("CampaignScheduled", campaign.campaign_id, f"plan-{week}", moment) | campaign._asdict()
    body |= {
        "talking_points": [f"{campaign.name} saves a day a week", "Named customers on request"],
        "data_points": [f"{30 + week % 40} % fewer lost leads in a survey of {100 + week % 900} teams"],
        "cost_minor": chance.between(500, 20_000) * 100,
        "currency": "EUR",
    }
    events = [Event(body, BIT["campaign"], moment)]
    if chance.yes(0.2):
        again = body | {"event_id": f"plan-{week}-b", "cost_minor": body["cost_minor"] * 2}
        again["occurred_at"] = again["recorded_at"] = moment + 3 * DAY
        events.append(Event(again, BIT["campaign"], moment + 3 * DAY))
    if chance.yes(plan.shares["retraction_retracted"]):
        retraction = _fact("EventRetracted", campaign.campaign_id, f"plan-{week}-c", moment + DAY)
        retraction |= {"target_event_id": body["event_id"], "reason_code": "entered_by_mistake"}
        events.append(Event(retraction, BIT["campaign"] | BIT["faulty"], moment + DAY))
    if chance.yes(plan.shares["calendar"]):
        events.append(Event(holiday(week, moment), BIT["calendar"], moment))
    return events


def holiday(week: int, moment: Micros) -> Body:
    """The office calendar with the usual holidays and one more, a fortnight ahead."""
    day = iso_date(moment // DAY + 14)
    body = _fact("CalendarChanged", "office", f"holiday-{week}", moment)
    return body | {
        "calendar_id": "office",
        "zone": "Europe/Berlin",
        "weekly": market.OFFICE_WEEK,
        "holidays": sorted({*market.HOLIDAYS, day}),
    }


def _fact(record: str, subject: str, event_id: str, moment: Micros) -> Body:
    return {
        "record": record,
        "event_id": event_id,
        "subject_id": subject,
        "occurred_at": moment,
        "recorded_at": moment,
        "source": MARKETING,
    }
