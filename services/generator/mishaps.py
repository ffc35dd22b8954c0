"""What happens to a lead's events on their way to the log, and what is taken back later.

Promises: after `disturb` every event has its recorded_at and its arrival, and the kinds that it really is:
late and out-of-order are found by comparing, not by intention. Nothing arrives before the story began.
"""

from collections import deque
from typing import Any

from schemas.records import Micros
from schemas.topics import EVENTS
from services.generator import market
from services.generator.chance import DAY, HOUR, MINUTE, SECOND, Chance
from services.generator.kinds import ADDING, BIT, Shares
from services.generator.story import MARKETING, SALES, WEBSITE, Body, Event, Story
from services.producing import partition_of

FUTURE_TOLERANCE: Micros = 5 * MINUTE
PRIVACY_DESK = "privacy_desk"
LONGEST_LAG = {WEBSITE: 2 * SECOND, MARKETING: 20 * SECOND, SALES: 2 * MINUTE, PRIVACY_DESK: SECOND}
"""How long a system takes at most to record what happened, when nothing goes wrong."""
STRANGERS = 64
"""So many subject ids of other leads are remembered, for events that land under the wrong one."""


class Mishaps:
    """Disturbs stories. Holds the chances of each mishap per event, and a few ids of other leads."""

    def __init__(self, chance: Chance, shares: Shares) -> None:
        self.chance, self.shares = chance, shares
        self.strangers = deque(["crm:nobody"], STRANGERS)
        own = 1 - sum(shares[kind] for kind in ADDING)
        self.per_event = {kind: share / max(own, 0.1) for kind, share in shares.items()}
        self.retracted = self.per_event["retracted_after"] + self.per_event["retracted_before"]
        both = shares["retracted_after"] + shares["retracted_before"]
        self.elsewhere = min(1.0, shares["retracted_elsewhere"] / both) if both else 0.0

    def disturb(self, story: Story) -> list[Event]:
        """The story's events and all that was added, sorted by arrival."""
        start = story.events[0].body["occurred_at"]
        self.take_back(story)
        events = sorted(story.events, key=_occurred)
        self.deliver(events)
        copies = self.add(story, events)
        for event in copies:
            event.arrival = max(event.arrival, start)
        events += copies
        events.sort(key=_arrival)
        find_disorder(events)
        self.strangers.append(story.subject)
        return events

    def deliver(self, events: list[Event]) -> None:
        """Stamp recorded_at and arrival: as a rule at once, some late, some held up on the way."""
        chance = self.chance
        late, held = self.per_event["late"] * 1.15, self.per_event["out_of_order"] * 1.15
        latest = 0
        for event in events:
            body = event.body
            body["recorded_at"] = body["occurred_at"] + chance.soon(LONGEST_LAG[body["source"]])
            event.arrival = latest = max(latest + 1, body["recorded_at"] + 10_000)
        for place, event in enumerate(events[:-1]):
            fate = chance.draw()
            if fate < late + held:
                later = events[min(len(events) - 1, place + 1 + int(chance.draw() * 4))].arrival
                event.arrival = later + 1 + chance.soon(DAY)
                if fate < late:
                    event.arrival += FUTURE_TOLERANCE
                    event.body["recorded_at"] = event.arrival - 1

    def add(self, story: Story, events: list[Event]) -> list[Event]:
        """Copies, conflicts, retractions, faulty and refused events that these events give rise to."""
        chance, per_event = self.chance, self.per_event
        copied = per_event["duplicate"]
        conflicting = copied + per_event["conflict"]
        retracted = conflicting + self.retracted
        faulty = retracted + per_event["faulty"]
        refused = faulty + per_event["refused"]
        added: list[Event] = []
        for event in events:
            fate = chance.draw()
            if fate >= refused:
                continue
            if fate < copied:
                added.append(self.copy(event))
            elif fate < conflicting:
                added.append(self.contradict(story, event))
            elif fate < retracted:
                added.append(self.retract(story, event))
            else:
                added.append(self.break_rule(story, event, fate >= faulty))
        return added

    def copy(self, event: Event) -> Event:
        """The same again: a producer's retry, or sent and stamped anew (sometimes with an earlier time)."""
        chance = self.chance
        body = event.body.copy()
        again = Event(body, BIT["duplicate"], event.arrival + 1 + chance.soon(2 * DAY))
        if self.shares["duplicate"] and chance.yes(self.shares["restamped"] / self.shares["duplicate"]):
            again.kinds |= BIT["restamped"]
            earlier = chance.yes(0.25)
            body["recorded_at"] = (
                body["occurred_at"] if earlier else body["recorded_at"] + 1 + chance.soon(2 * DAY)
            )
        return again

    def contradict(self, story: Story, event: Event) -> Event:
        """Another content under the same id, recorded after, before or with the first, maybe elsewhere."""
        chance = self.chance
        body = event.body.copy()
        other = Event(body, BIT["conflict"], event.arrival + 1 + chance.soon(2 * DAY))
        body["occurred_at"] -= chance.soon(HOUR)
        if chance.yes(0.9):
            later = body["recorded_at"] + 1 + chance.soon(2 * DAY)
            body["recorded_at"] = later if chance.yes(0.7) else body["occurred_at"]
        if body["record"] == "TouchRecorded":
            body["channel"] = chance.pick(market.SOURCES).channel
        if self.shares["conflict"] and chance.yes(
            self.shares["conflict_elsewhere"] / self.shares["conflict"]
        ):
            other.kinds |= BIT["conflict_elsewhere"]
            body["subject_id"] = self.elsewhere_than(story, body["subject_id"])
        return other

    def retract(self, story: Story, target: Event) -> Event:
        """That event never counted: said after it arrived, or before, when the target is held up."""
        chance = self.chance
        before = chance.yes(self.per_event["retracted_before"] / self.retracted)
        happened = target.body["occurred_at"] + chance.soon(DAY)
        if before:
            arrival = max(happened, target.arrival - chance.soon(MINUTE)) + SECOND
            target.arrival = max(target.arrival, arrival + 1 + chance.soon(HOUR))
        else:
            arrival = max(happened, target.arrival) + 1 + chance.soon(DAY)
        event = self.retraction(story, target, happened, arrival)
        event.kinds |= BIT["retracted_before" if before else "retracted_after"]
        return event

    def retraction(self, story: Story, target: Event, happened: Micros, arrival: Micros) -> Event:
        """An EventRetracted for the target, in some journeys under another subject."""
        body = _body(story, "EventRetracted", target.body["subject_id"], happened, arrival - 1)
        body |= {"target_event_id": target.body["event_id"], "reason_code": "entered_by_mistake"}
        kinds = 0
        if self.chance.yes(self.elsewhere):
            kinds = BIT["retracted_elsewhere"]
            body["subject_id"] = self.elsewhere_than(story, body["subject_id"])
        return Event(body, kinds, arrival)

    def elsewhere_than(self, story: Story, subject: str) -> str:
        """Another subject id: another one of this lead, another lead's, or one that nothing else names."""
        others = [known for known in story.subjects if known != subject]
        return self.chance.pick((*others, self.chance.pick(self.strangers), f"desk:{story.tag}"))

    def take_back(self, story: Story) -> None:
        """Links taken back, subjects erased, retractions retracted, and what names each other in a circle."""
        chance, shares = self.chance, self.shares
        for event in story.links:
            ends = (event.body["subject_id"], event.body["other_subject_id"])
            if len({partition_of(EVENTS, subject.encode()) for subject in ends}) > 1:
                event.kinds |= BIT["linked_across"]
        if story.links and shares["linked"]:
            if chance.yes(shares["unlinked"] / shares["linked"]):
                unlink(story, chance)
            if chance.yes(shares["link_retracted"] / shares["linked"]):
                withdraw_link(story, chance)
        if chance.yes(shares["retraction_retracted"]):
            regret(story, chance)
        if chance.yes(shares["cycle"]):
            go_in_circles(story, chance)
        if chance.yes(shares["erased"]):
            erase(story, chance)

    def break_rule(self, story: Story, event: Event, refused: bool) -> Event:
        """An event against a rule: of the definition (stored with its fault) or of every door (refused)."""
        chance = self.chance
        moment = event.body["occurred_at"] + chance.soon(HOUR)
        recorded = moment + chance.soon(MINUTE)
        name, fields = chance.pick(REFUSED if refused else FAULTY)
        body = _body(story, name, event.body["subject_id"], moment, recorded)
        body |= fields
        if "reason_code" in fields and fields["reason_code"] == "from_the_future":
            body["occurred_at"] = recorded + FUTURE_TOLERANCE + 1 + chance.soon(DAY)
        if "currency" in fields and fields["currency"] is None:
            body["currency"] = market.OTHER_CURRENCY[story.currency]
            body["opportunity_id"] = f"opp-{story.number:x}-1"
        return Event(
            body, BIT["refused" if refused else "faulty"], max(recorded, event.arrival) + chance.soon(SECOND)
        )


MACHINE = {"kind": "system", "id": "workflow-7"}
PERSON = {"kind": "human", "id": "rep-01"}
FAULTY: tuple[tuple[str, Body], ...] = (
    ("StageChanged", {"to_stage": "Prospect"}),
    ("StageChanged", {"to_stage": "Visitor"}),
    ("StageChanged", {"to_stage": "SQL", "actor": MACHINE}),
    ("HandoffRejected", {"reason_code": "did_not_like_it", "return_to": "nurture", "actor": PERSON}),
    ("HandoffRejected", {"reason_code": "no_budget", "return_to": "recycled", "actor": PERSON}),
    (
        "RevenueAdjusted",
        {
            "opportunity_id": "opp-unknown",
            "delta_minor": -100,
            "currency": "EUR",
            "effective_at": 0,
            "reason_code": "refund",
        },
    ),
    (
        "RevenueAdjusted",
        {
            "opportunity_id": "",
            "delta_minor": -100,
            "currency": None,
            "effective_at": 0,
            "reason_code": "refund",
        },
    ),
    ("CustomerChurned", {"reason_code": "price"}),
)
"""Accepted at every door. A currency of None is replaced by another one than the deal's."""
REFUSED: tuple[tuple[str, Body], ...] = (
    ("StageChanged", {"to_stage": "MQL", "reason_code": "from_the_future"}),
    ("HandoffAccepted", {"actor": MACHINE}),
    ("OpportunityOpened", {"opportunity_id": "opp-bare", "amount_minor": 5_000_00}),
    ("OpportunityWon", {"opportunity_id": "opp-bare", "amount_minor": 5_000_00, "currency": "Euro"}),
    ("HandoffRejected", {"reason_code": "other", "return_to": "nurture", "actor": PERSON}),
    ("AttributeChanged", {"name": "country", "value": "DE", "subject_id": "someone@example.com"}),
    ("TouchRecorded", {"touch_type": "carrier_pigeon", "direction": "inbound", "channel": "direct"}),
    ("MeetingHeld", {"kind": "demo", "attendance": 2}),
)
"""Refused at every door: from the future, accepted by a machine, money without or with a wrong currency,
`other` without a note, an e-mail address as subject, an unknown value, fields missing and unknown."""


def unlink(story: Story, chance: Chance) -> None:
    """Take a link back; it may arrive before the link."""
    link = chance.pick(story.links)
    moment = link.body["occurred_at"] + chance.soon(30 * DAY)
    fields = {"link_event_id": link.body["event_id"], "reason_code": "wrong_person"}
    _happen(story, "unlinked", moment, "SubjectsUnlinked", subject_id=link.body["subject_id"], **fields)


def withdraw_link(story: Story, chance: Chance) -> None:
    """Retract a link, or the unlinking of it."""
    target = chance.pick(story.links)
    unlinks = [event for event in story.events if event.body["record"] == "SubjectsUnlinked"]
    if unlinks and chance.yes(0.5):
        target = unlinks[0]
    _retract(story, target, target.body["occurred_at"] + chance.soon(10 * DAY), "link_retracted")


def regret(story: Story, chance: Chance) -> None:
    """Retract an event, and then the retraction: it counts again."""
    target = chance.pick(story.events)
    first = _retract(story, target, target.body["occurred_at"] + chance.soon(DAY), "")
    _retract(story, first, first.body["occurred_at"] + chance.soon(DAY), "retraction_retracted")


def go_in_circles(story: Story, chance: Chance) -> None:
    """Retractions that name each other, or an unlinking that names them: none has an effect."""
    target = chance.pick(story.events)
    moment = target.body["occurred_at"] + chance.soon(DAY)
    first = _retract(story, target, moment, "cycle")
    if chance.yes(0.3):
        fields = {"link_event_id": first.body["event_id"], "reason_code": "wrong_person"}
        second = _happen(story, "cycle", moment, "SubjectsUnlinked", subject_id=story.subject, **fields)
    else:
        second = _retract(story, first, moment + chance.soon(DAY), "cycle")
    first.body["target_event_id"] = second.body["event_id"]


def erase(story: Story, chance: Chance) -> None:
    """One of the lead's subjects asks to be forgotten, at the end or while its story goes on."""
    last = max(event.body["occurred_at"] for event in story.events)
    first = story.events[0].body["occurred_at"]
    moment = last + chance.soon(30 * DAY) if chance.yes(0.5) else first + chance.soon(last - first + 1)
    subject = chance.pick(story.subjects)
    event = _happen(
        story, "erased", moment, "SubjectErased", subject_id=subject, request_id=f"gdpr-{story.tag}"
    )
    event.body["source"] = PRIVACY_DESK


def _retract(story: Story, target: Event, moment: Micros, kind: str) -> Event:
    fields = {"target_event_id": target.body["event_id"], "reason_code": "entered_by_mistake"}
    return _happen(story, kind, moment, "EventRetracted", subject_id=target.body["subject_id"], **fields)


def _happen(story: Story, kind: str, moment: Micros, record: str, **fields: Any) -> Event:
    return story.tell(record, SALES, kind, occurred_at=moment, **fields)


def _body(story: Story, record: str, subject: str, occurred: Micros, recorded: Micros) -> Body:
    body: Body = {
        "record": record,
        "event_id": story.new_id() + "x",
        "subject_id": subject,
        "occurred_at": occurred,
        "recorded_at": max(occurred, recorded),
        "source": SALES,
    }
    return body


def _occurred(event: Event) -> tuple[Micros, str]:
    return event.body["occurred_at"], event.body["event_id"]


def _arrival(event: Event) -> tuple[Micros, str]:
    return event.arrival, event.body["event_id"]


NOT_COMPARED = BIT["duplicate"] | BIT["conflict"] | BIT["refused"]


def find_disorder(events: list[Event]) -> None:
    """Mark what arrives after later events of its journey; `events` in order of arrival."""
    latest: Micros = 0
    for event in events:
        if event.kinds & NOT_COMPARED:
            continue
        occurred: Micros = event.body["occurred_at"]
        if occurred < latest:
            lag = event.body["recorded_at"] - occurred
            event.kinds |= BIT["late" if lag > FUTURE_TOLERANCE else "out_of_order"]
        else:
            latest = occurred
