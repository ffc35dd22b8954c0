"""A second reading of the journey rules, written from their text alone: slow, plain and kept that way.

Promises: `tables(records, timeline)` gives the rows of every table of a projection version over a whole log,
one dict per row. Every step reads all earlier events again, business time is counted minute by minute, and
shares are fractions. Leaves out channel reports (`markov`), views, and the text of fault messages. It imports
nothing of `projections`, so that a mistake there cannot hide here.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import yaml

from schemas import records as r
from schemas.content import content_hash
from tests.oracle_credit import Path, path_of, split, weights_of
from tests.oracle_definition import (
    SUCCESS,
    as_list,
    channel_of,
    duration,
    holds,
    is_above,
    lowest_role,
    name_of_role,
    role_of_name,
    score_at,
    touch_matches,
    version_at,
)
from tests.oracle_time import MINUTE, Pause, due, elapsed

Row = dict[str, Any]
Timeline = list[tuple[int | None, str]]
Versions = list[tuple[int | None, Row]]

RETURNS = ["recycled", "nurture", "disqualified"]
DEFAULT_REASONS = [
    *["bad_contact_data", "duplicate", "competitor", "student", "no_need", "no_budget", "no_authority"],
    *["bad_timing", "wrong_territory", "already_customer", "already_engaged", "other"],
]
DEFAULT_MODELS = [
    *["first", "last", "lc", "last_non_direct", "linear", "u50", "u40"],
    *["pos40", "j", "inverse_j", "w30", "full_path", "decay", "shapley"],
]
MONEY = (
    r.OpportunityOpened
    | r.OpportunityChanged
    | r.OpportunityWon
    | r.CustomerRenewed
    | r.CustomerChurned
    | r.RevenueAdjusted
)


@dataclass
class Log:
    """What is left of a log after duplicates, conflicts, retractions and unlinks."""

    copies: dict[str, list[r.Record]]
    """Event id to its distinct contents by rank; the first one counts."""
    faults: dict[str, str]
    """Fault of the copy that counts, where it needs no state to see."""


def ranked_copies(records: Iterable[r.Record]) -> dict[str, list[r.Record]]:
    copies: dict[str, dict[bytes, r.Record]] = {}
    for record in sorted(records, key=lambda record: record.recorded_at):
        copies.setdefault(record.event_id, {}).setdefault(content_hash(record), record)
    return {
        event_id: [record for _, record in sorted(of_id.items(), key=lambda x: (x[1].recorded_at, x[0]))]
        for event_id, of_id in copies.items()
    }


def is_from_the_future(record: r.Record) -> bool:
    return record.occurred_at - record.recorded_at > 5 * MINUTE


def named_by(record: r.Record) -> str | None:
    if is_from_the_future(record):
        return None
    if isinstance(record, r.EventRetracted):
        return record.target_event_id
    return record.link_event_id if isinstance(record, r.SubjectsUnlinked) else None


def is_removable_by(record: r.Record, target: r.Record) -> bool:
    if isinstance(record, r.SubjectsUnlinked):
        return isinstance(target, r.SubjectsLinked)
    return not isinstance(target, r.ReferenceFact | r.SubjectErased)


def on_cycle(event_id: str, names: dict[str, str]) -> bool:
    at, seen = names.get(event_id), set[str]()
    while at is not None and at != event_id and at not in seen:
        seen.add(at)
        at = names.get(at)
    return at == event_id


def resolve(records: Iterable[r.Record]) -> Log:
    """Takes back what is taken back; a retraction that breaks a cycle leaves a history without that part."""
    copies = ranked_copies(records)
    while True:
        names = {i: n for i, of_id in copies.items() if (n := named_by(of_id[0])) is not None}
        cycle = {event_id for event_id in names if on_cycle(event_id, names)}
        removed = {names[i] for i in names if i not in cycle and removes(i, names, copies)}
        if not removed & cycle:
            break
        copies = {i: of_id for i, of_id in copies.items() if i not in removed & cycle}
    left = {event_id: of_id for event_id, of_id in copies.items() if event_id not in removed}
    return Log(left, {i: code for i, c in left.items() if (code := stateless_fault(c[0], cycle, copies))})


def removes(event_id: str, names: dict[str, str], copies: dict[str, list[r.Record]]) -> bool:
    """Whether an event in no cycle is in force and takes back what it names."""
    target = copies.get(names[event_id])
    if target is None or not is_removable_by(copies[event_id][0], target[0]):
        return False
    return not any(names[i] == event_id and removes(i, names, copies) for i in names)


def stateless_fault(record: r.Record, cycle: set[str], copies: dict[str, list[r.Record]]) -> str | None:
    if is_from_the_future(record):
        return "from_the_future"
    if record.event_id in cycle:
        return "retraction_cycle"
    if isinstance(record, MONEY) and not record.currency:
        amount = record.delta_minor if isinstance(record, r.RevenueAdjusted) else record.amount_minor
        if amount is not None:
            return "money_without_currency"
    if isinstance(record, r.EventRetracted):
        target = copies.get(record.target_event_id)
        if target is not None and not is_removable_by(record, target[0]):
            return "not_retractable"
    return None


def journeys_of(log: Log) -> dict[str, str]:
    """Subject id to journey id: the smallest subject id that links in force reach from it."""
    counts = [of_id[0] for event_id, of_id in log.copies.items() if event_id not in log.faults]
    links = [event for event in counts if isinstance(event, r.SubjectsLinked)]
    subjects = {copy.subject_id for of_id in log.copies.values() for copy in of_id}
    subjects |= {link.other_subject_id for link in links}
    return {subject: min(reached(subject, links), key=str.encode) for subject in subjects}


def reached(subject: str, links: list[r.SubjectsLinked]) -> set[str]:
    found, before = {subject}, set[str]()
    while found != before:
        before = set(found)
        for link in links:
            pair = {link.subject_id, link.other_subject_id}
            found |= pair if pair & found else set()
    return found


@dataclass
class Visit:
    stage: str
    role: str
    entered: r.Record
    is_inferred: bool
    left: r.Record | None = None
    left_under: Row = field(default_factory=dict)
    next_stage: str | None = None


@dataclass
class Handoff:
    opened: r.Record
    owner_id: str | None
    team_id: str | None
    ended: r.Record | None = None
    outcome: str | None = None


@dataclass
class Win:
    event: r.OpportunityWon
    definition: Row
    known_at: int
    opened_at: int | None
    adjustments: list[r.RevenueAdjusted] = field(default_factory=list)
    undone: r.Record | None = None


@dataclass
class Opportunity:
    first: r.Record
    opportunity_id: str
    account_id: str | None = None
    status: str = "open"
    opened_at: int | None = None
    closed_at: int | None = None
    amount_minor: int | None = None
    currency: str | None = None
    loss_reason: str | None = None


@dataclass
class Clock:
    policy: Row
    definition: Row
    clock_no: int
    started: r.Record
    entered_role: str | None
    owner_id: str | None
    team_id: str | None
    pauses: list[Pause] = field(default_factory=list)
    stopped: r.Record | None = None
    stopped_at: int | None = None
    cancelled_reason: str | None = None

    def is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    def pause_end(self) -> int | None:
        """The instant at which max_pause ends the open pause; None = no bound."""
        if "max_pause" not in self.policy:
            return None
        return self.pauses[-1][0] + duration(self.policy["max_pause"]) - closed_pauses(self.pauses)

    def resume(self, at: int) -> None:
        end = self.pause_end()
        self.pauses[-1] = (self.pauses[-1][0], at if end is None else min(at, end))


def closed_pauses(pauses: list[Pause]) -> int:
    return sum(until - since for since, until in pauses if until is not None)


class Journey:
    """The fold of one journey: `step` for each event without a stateless fault, in order."""

    def __init__(self, versions: Versions, calendars: list[r.CalendarChanged]) -> None:
        self.versions, self.calendars = versions, calendars
        self.events: list[r.Record] = []
        self.counted: list[r.Record] = []
        self.faults: list[tuple[r.Record, str]] = []
        self.flags: set[str] = set()
        self.visits: list[Visit] = []
        self.entries: list[Visit] = []
        self.turned_back = False
        self.handoffs: list[Handoff] = []
        self.handoff_status = "none"
        self.opportunities: dict[str, Opportunity] = {}
        self.wins: list[Win] = []
        self.clocks: list[Clock] = []

    # what is known at the event being folded

    def last_of(self, *kinds: type[r.Envelope]) -> Any:
        return next((event for event in reversed(self.events) if isinstance(event, kinds)), None)

    def owner(self) -> tuple[str | None, str | None]:
        assigned = self.last_of(r.LeadAssigned)
        return (assigned.owner_id, assigned.team_id) if assigned else (None, None)

    def role(self, definition: Row) -> str:
        return self.visits[-1].role if self.visits else lowest_role(definition)

    def open_handoff(self) -> Handoff | None:
        return next((handoff for handoff in self.handoffs if handoff.ended is None), None)

    def win_in_force(self, opportunity_id: str) -> Win | None:
        for win in self.wins:
            if win.event.opportunity_id == opportunity_id and win.undone is None:
                return win
        return None

    def is_won_elsewhere(self, opportunity_id: str) -> bool:
        return any(o.status == "won" for i, o in self.opportunities.items() if i != opportunity_id)

    def is_true(self, predicate: Row, definition: Row) -> bool:
        return holds(definition, predicate, self.events, self.counted, self.events[-1].occurred_at)

    # one event

    def step(self, event: r.Record) -> None:
        definition = version_at(self.versions, event.occurred_at)
        code = self.fault_of(event, definition)
        if code is not None:
            self.faults.append((event, code))
            return
        self.events.append(event)
        self.counted.append(event)
        self.entries, self.turned_back = [], False
        if not self.visits:
            self.move(lowest_role(definition), event, definition)
        self.effect(event, definition)
        self.apply_rules(event, definition)
        self.apply_pause(event)
        self.stop_clocks(event)
        self.start_clocks(event, definition)

    def fault_of(self, event: r.Record, definition: Row) -> str | None:
        match event:
            case r.StageChanged():
                return self.fault_of_stage_change(event, definition)
            case r.HandoffAccepted():
                return "sql_without_reviewer" if event.actor.kind == "system" else None
            case r.HandoffRejected():
                return self.fault_of_rejection(event, definition)
            case r.CustomerChurned() | r.CustomerRenewed():
                return None if self.wins else "not_a_customer"
            case r.RevenueAdjusted():
                return self.fault_of_adjustment(event)
        return None

    def fault_of_adjustment(self, event: r.RevenueAdjusted) -> str | None:
        win = self.win_in_force(event.opportunity_id)
        if win is None:
            return "no_win_to_adjust"
        return "currency_mismatch" if win.event.currency != event.currency else None

    def fault_of_stage_change(self, event: r.StageChanged, definition: Row) -> str | None:
        to, here = role_of_name(definition, event.to_stage), self.role(definition)
        if to is None:
            return "unknown_stage"
        if to == here:
            return None
        if (to not in SUCCESS or is_above(here, to)) and not event.reason_code:
            return "move_without_reason"
        return "sql_without_reviewer" if to == "sql" and event.actor.kind == "system" else None

    def fault_of_rejection(self, event: r.HandoffRejected, definition: Row) -> str | None:
        reasons = (definition.get("handoff") or {}).get("reject_reasons", DEFAULT_REASONS)
        if name_of_role(definition, event.return_to) is None:
            return "unknown_stage"
        if self.open_handoff() is None:
            return "no_open_handoff"
        if event.reason_code not in reasons:
            return "unknown_reason_code"
        return "note_missing" if event.reason_code == "other" and not event.note else None

    # the stage machine

    def move(self, role: str, event: r.Record, definition: Row) -> None:
        """Enters the stage of a role, unless the journey is in it or the definition lacks it."""
        name = name_of_role(definition, role)
        here = self.visits[-1].role if self.visits else None
        if name is None or role == here:
            return
        skipped = [x for x in self.skipped_below(role) if name_of_role(definition, x)]
        for visit in self.visits:
            if visit.left is None:
                visit.left, visit.left_under, visit.next_stage = event, definition, name
        for lower in skipped:
            stage = str(name_of_role(definition, lower))
            self.enter(Visit(stage, lower, event, True, event, definition, name))
        self.enter(Visit(name, role, event, False))
        self.turned_back = here is not None and (role not in SUCCESS or is_above(here, role))
        self.end_handoff(role, event)
        if role == "mql" and self.open_handoff() is None:
            self.handoffs.append(Handoff(event, *self.owner()))
            self.handoff_status = "open"
        if role in RETURNS:
            self.counted = []

    def enter(self, visit: Visit) -> None:
        self.visits.append(visit)
        self.entries.append(visit)

    def skipped_below(self, role: str) -> list[str]:
        if role not in SUCCESS:
            return []
        returns = [number for number, visit in enumerate(self.visits) if visit.role in RETURNS]
        this_pass = self.visits[returns[-1] + 1 :] if returns else self.visits
        lowest = "mql" if returns else "anonymous"
        below = SUCCESS[SUCCESS.index(lowest) : SUCCESS.index(role)]
        return [lower for lower in below if lower not in [visit.role for visit in this_pass]]

    def end_handoff(self, role: str, event: r.Record) -> None:
        handoff = self.open_handoff()
        if handoff is None or role in ("mql", "sal"):
            return
        if isinstance(event, r.HandoffAccepted) or (isinstance(event, r.StageChanged) and role == "sql"):
            outcome = "accepted"
        elif isinstance(event, r.HandoffRejected):
            outcome = "rejected"
        else:
            outcome = "bypassed" if is_above(role, "sal") else "withdrawn"
        handoff.ended, handoff.outcome = event, outcome
        self.handoff_status = outcome

    def at_least(self, role: str, event: r.Record, definition: Row) -> None:
        if is_above(role, self.visits[-1].role):
            self.move(role, event, definition)

    def effect(self, event: r.Record, definition: Row) -> None:
        match event:
            case r.SubjectsLinked(evidence="identified" | "merged_in_crm" | "import"):
                self.at_least("known", event, definition)
            case r.StageChanged():
                self.change_stage(event, definition)
            case r.HandoffAccepted():
                self.accept(event, definition)
            case r.HandoffRejected():
                self.move(event.return_to, event, definition)
            case r.CustomerChurned():
                self.move("churned", event, definition)
            case r.CustomerRenewed() if self.visits[-1].role == "churned":
                self.move("won", event, definition)
            case r.RevenueAdjusted():
                win = self.win_in_force(event.opportunity_id)
                if win is not None:
                    win.adjustments.append(event)
            case _:
                self.opportunity_effect(event, definition)

    def change_stage(self, event: r.StageChanged, definition: Row) -> None:
        role = str(role_of_name(definition, event.to_stage))
        if role == "sql" != self.visits[-1].role and event.actor.kind == "import":
            self.flags.add("reviewer_unknown")
        self.move(role, event, definition)

    def accept(self, event: r.HandoffAccepted, definition: Row) -> None:
        here = self.visits[-1].role
        moves = is_above("sql", here) or here in RETURNS
        if self.handoff_status == "accepted" and not moves:
            return
        if self.open_handoff() is None:
            self.flags.add("accepted_without_mql")
        if event.actor.kind == "import":
            self.flags.add("reviewer_unknown")
        if moves:
            self.move("sql", event, definition)
        self.handoff_status = "accepted"

    def opportunity_effect(self, event: r.Record, definition: Row) -> None:
        match event:
            case r.OpportunityOpened():
                self.opened(event, definition)
            case r.OpportunityChanged():
                self.set_amount(self.opportunity_of(event, event.opportunity_id), event)
            case r.OpportunityWon():
                self.won(event, definition)
            case r.OpportunityLost():
                self.lost(event, definition)
            case r.OpportunityReopened():
                self.reopened(event, definition)

    def opportunity_of(self, event: r.Record, opportunity_id: str) -> Opportunity:
        return self.opportunities.setdefault(opportunity_id, Opportunity(event, opportunity_id))

    def set_amount(self, opportunity: Opportunity, event: r.OpportunityOpened | r.OpportunityChanged) -> None:
        if event.amount_minor is not None and opportunity.status == "open":
            opportunity.amount_minor, opportunity.currency = event.amount_minor, event.currency

    def opened(self, event: r.OpportunityOpened, definition: Row) -> None:
        opportunity = self.opportunity_of(event, event.opportunity_id)
        is_first = opportunity.opened_at is None
        if is_first:
            opportunity.opened_at = event.occurred_at
        self.set_amount(opportunity, event)
        if is_first and opportunity.status == "open":
            opportunity.account_id = event.account_id
            if self.visits[-1].role != "won":
                self.move("opportunity", event, definition)

    def undo_win(self, opportunity_id: str, event: r.Record) -> None:
        win = self.win_in_force(opportunity_id)
        if win is not None:
            win.undone = event

    def won(self, event: r.OpportunityWon, definition: Row) -> None:
        opportunity = self.opportunity_of(event, event.opportunity_id)
        self.undo_win(event.opportunity_id, event)
        opportunity.status, opportunity.closed_at, opportunity.loss_reason = "won", event.occurred_at, None
        opportunity.amount_minor, opportunity.currency = event.amount_minor, event.currency
        self.move("won", event, definition)
        known = [visit.entered.occurred_at for visit in self.visits if visit.role == "known"]
        known_at = known[0] if known else self.events[0].occurred_at
        self.wins.append(Win(event, definition, known_at, opportunity.opened_at))

    def lost(self, event: r.OpportunityLost, definition: Row) -> None:
        opportunity = self.opportunity_of(event, event.opportunity_id)
        self.undo_win(event.opportunity_id, event)
        opportunity.status, opportunity.closed_at = "lost", event.occurred_at
        opportunity.loss_reason = event.reason_code or None
        if not any(other.status == "open" for other in self.opportunities.values()):
            is_won = self.is_won_elsewhere(event.opportunity_id)
            self.move("churned" if self.has_churned() else "won" if is_won else "lost", event, definition)

    def has_churned(self) -> bool:
        """Whether the last of the wins that count, the renewals and the churns was a churn."""
        in_force = [win.event for win in self.wins if win.undone is None]
        kinds = r.CustomerChurned | r.CustomerRenewed
        decisive = [event for event in self.events if isinstance(event, kinds) or event in in_force]
        return bool(decisive) and isinstance(decisive[-1], r.CustomerChurned)

    def reopened(self, event: r.OpportunityReopened, definition: Row) -> None:
        opportunity = self.opportunities.get(event.opportunity_id)
        if opportunity is None or opportunity.status == "open":
            return
        self.undo_win(event.opportunity_id, event)
        opportunity.status, opportunity.closed_at, opportunity.loss_reason = "open", None, None
        if not self.is_won_elsewhere(event.opportunity_id):
            below = [role for role in SUCCESS[:7] if name_of_role(definition, role)]
            self.move(below[-1], event, definition)

    def apply_rules(self, event: r.Record, definition: Row) -> None:
        while not self.turned_back and (role := self.rule_role(definition)) is not None:
            self.move(role, event, definition)

    def rule_role(self, definition: Row) -> str | None:
        """The highest role above the present one, up to mql, whose `enter` predicate is true."""
        here = self.visits[-1].role
        for stage in sorted(definition["stages"], key=lambda stage: self.rank(stage["role"]), reverse=True):
            if "enter" not in stage or not -1 < self.rank(stage["role"]) <= SUCCESS.index("mql"):
                continue
            is_open = here in ("recycled", "nurture") or is_above(stage["role"], here)
            if is_open and self.is_true(stage["enter"], definition):
                return str(stage["role"])
        return None

    def rank(self, role: str) -> int:
        return SUCCESS.index(role) if role in SUCCESS else -1

    # clocks

    def item_matches(self, item: Row, event: r.Record, entered: list[Visit]) -> bool:
        if "entered" in item:
            return item["entered"] in [visit.role for visit in entered]
        seen = {
            "record": type(event).__name__,
            "direction": getattr(event, "direction", None),
            "touch_type": getattr(event, "touch_type", None),
            "actor": event.actor.kind,
        }
        return all(seen[key] in as_list(wanted) for key, wanted in item.items())

    def running(self) -> list[Clock]:
        return [clock for clock in self.clocks if clock.stopped is None]

    def apply_pause(self, event: r.Record) -> None:
        for clock in self.running():
            if not isinstance(event, r.ClockPaused | r.ClockResumed):
                continue
            if event.policy_id not in (None, clock.policy["id"]):
                continue
            if isinstance(event, r.ClockResumed) and clock.is_paused():
                clock.resume(event.occurred_at)
            elif isinstance(event, r.ClockPaused) and self.may_pause(clock, event.occurred_at):
                clock.pauses.append((event.occurred_at, None))

    def may_pause(self, clock: Clock, at: int) -> bool:
        if clock.is_paused():
            return False
        bound = clock.policy.get("max_pause")
        if bound is not None and closed_pauses(clock.pauses) >= duration(bound):
            return False
        due_at = due(self.calendar_of(clock, at), clock.started.occurred_at, target(clock), clock.pauses)
        return due_at is not None and at < due_at

    def stop_clocks(self, event: r.Record) -> None:
        real = [visit.role for visit in self.entries if not visit.is_inferred]
        for clock in self.running():
            role = clock.entered_role
            if any(self.item_matches(item, event, self.entries) for item in clock.policy["stop"]):
                self.stop(clock, event, event.occurred_at, None)
            elif role and any(entered != role and not is_above(entered, role) for entered in real):
                self.stop(clock, event, event.occurred_at, "moved")

    def stop(self, clock: Clock, event: r.Record, at: int, reason: str | None) -> None:
        clock.stopped, clock.stopped_at, clock.cancelled_reason = event, at, reason
        clock.pauses = [pause for pause in clock.pauses if pause[0] <= at]
        if clock.is_paused():
            clock.resume(at)
        clock.pauses = [(since, min(until or at, at)) for since, until in clock.pauses]

    def start_clocks(self, event: r.Record, definition: Row) -> None:
        real = [visit for visit in self.entries if not visit.is_inferred]
        for policy in definition.get("sla") or []:
            if any(clock.policy["id"] == policy["id"] for clock in self.running()):
                continue
            items = [item for item in policy["start"] if self.item_matches(item, event, real)]
            if items and ("filter" not in policy or self.is_true(policy["filter"], definition)):
                number = 1 + sum(clock.policy["id"] == policy["id"] for clock in self.clocks)
                named = {item.get("entered") for item in items}
                role = next((visit.role for visit in reversed(real) if visit.role in named), None)
                self.clocks.append(Clock(policy, definition, number, event, role, *self.owner()))

    def erase(self, erasures: list[r.SubjectErased]) -> None:
        for clock in self.running() if erasures else []:
            at = max(clock.started.occurred_at, erasures[0].occurred_at)
            self.stop(clock, erasures[0], at, "erased")

    # calendars

    def calendar(self, calendar_id: str, at: int | None, definition: Row) -> Row:
        """The calendar as of an instant; None = as of the last fact known."""
        facts = [x for x in self.calendars if x.calendar_id == calendar_id]
        for fact in reversed([x for x in facts if at is None or x.occurred_at <= at]):
            return {"zone": fact.zone, "weekly": fact.weekly, "holidays": fact.holidays}
        return dict(definition["calendars"][calendar_id])

    def calendar_of(self, clock: Clock, at: int | None) -> Row | None:
        calendar_id = calendar_id_of(clock)
        return None if calendar_id is None else self.calendar(calendar_id, at, clock.definition)


def calendar_id_of(clock: Clock) -> str | None:
    if clock.policy.get("time", "business") == "calendar":
        return None
    return str(clock.policy.get("calendar") or clock.definition["calendar"])


def target(clock: Clock) -> int:
    return duration(clock.policy["target"])


def seconds(amount: int) -> float:
    return amount / 1_000_000


def is_in_lead(touch: r.Record) -> bool:
    return isinstance(touch, r.TouchRecorded) and touch.direction == "inbound" and touch.offer_id is not None


def lead_state(journey: Journey, fault_count: int) -> Row:
    here, last = journey.visits[-1], journey.events[-1]
    real = [visit for visit in journey.visits if not visit.is_inferred]
    touches = [event for event in journey.events if isinstance(event, r.TouchRecorded)]
    rejected = journey.last_of(r.HandoffRejected)
    first, before_mql = offers(journey)
    furthest = max((v.role for v in real if v.role in SUCCESS), key=SUCCESS.index)
    statuses = [opportunity.status for opportunity in journey.opportunities.values()]
    owner_id, team_id = journey.owner()
    definition = version_at(journey.versions, last.occurred_at)
    return {
        "stage": here.stage,
        "stage_role": here.role,
        "stage_entered_at": here.entered.occurred_at,
        "stage_entered_event_id": here.entered.event_id,
        "previous_stage": real[-2].stage if len(real) > 1 else None,
        "furthest_role": furthest,
        "handoff_status": journey.handoff_status,
        "handoff_reason": rejected.reason_code if rejected else None,
        "recycle_until": rejected.recycle_until if rejected else None,
        "owner_id": owner_id,
        "team_id": team_id,
        "score": score_at(definition, journey.counted, last.occurred_at),
        "flags": ",".join(sorted(journey.flags)),
        "fault_count": fault_count,
        "first_touch_at": touches[0].occurred_at if touches else None,
        "last_touch_at": touches[-1].occurred_at if touches else None,
        "first_offer_id": first.offer_id if first else None,
        "last_offer_before_mql_id": before_mql.offer_id if before_mql else None,
        "first_campaign_id": first.campaign_id if first else None,
        "last_campaign_before_mql_id": before_mql.campaign_id if before_mql else None,
        "open_opportunities": statuses.count("open"),
        "won_opportunities": statuses.count("won"),
        "event_count": len(journey.events),
        "last_event_id": last.event_id,
        "last_event_at": last.occurred_at,
    }


def offers(journey: Journey) -> tuple[Any, Any]:
    """The first inbound touch with an offer, and the last such at or before the latest mql entry."""
    such = [event for event in journey.events if is_in_lead(event)]
    entries = [visit.entered.occurred_at for visit in journey.visits if visit.role == "mql"]
    before = [touch for touch in such if entries and touch.occurred_at <= entries[-1]]
    return such[0] if such else None, before[-1] if before else None


def lead_money(journey: Journey) -> Iterator[Row]:
    in_force = [win for win in journey.wins if win.undone is None]
    for currency in {win.event.currency for win in in_force}:
        wins = [win for win in in_force if win.event.currency == currency]
        yield {
            "currency": currency,
            "won_minor": sum(win.event.amount_minor for win in wins),
            "adjusted_minor": sum(x.delta_minor for win in wins for x in win.adjustments),
        }


def stage_visit(journey: Journey) -> Iterator[Row]:
    for number, visit in enumerate(journey.visits, start=1):
        row: Row = {
            "visit_no": number,
            "stage": visit.stage,
            "stage_role": visit.role,
            "entered_at": visit.entered.occurred_at,
            "next_stage": visit.next_stage,
            "is_inferred": visit.is_inferred,
            "entered_event_id": visit.entered.event_id,
        }
        yield row | visit_end(journey, visit)


def visit_end(journey: Journey, visit: Visit) -> Row:
    names = ["left_at", "left_event_id", "reason_code", "calendar_seconds", "business_seconds"]
    if visit.left is None:
        return dict.fromkeys(names)
    start, end = visit.entered.occurred_at, visit.left.occurred_at
    calendar = journey.calendar(visit.left_under["calendar"], end, visit.left_under)
    return {
        "left_at": end,
        "left_event_id": visit.left.event_id,
        "reason_code": getattr(visit.left, "reason_code", None) or None,
        "calendar_seconds": seconds(end - start),
        "business_seconds": seconds(elapsed(calendar, start, end)),
    }


def handoff(journey: Journey) -> Iterator[Row]:
    for number, one in enumerate(journey.handoffs, start=1):
        yield {
            "handoff_no": number,
            "opened_at": one.opened.occurred_at,
            "opened_event_id": one.opened.event_id,
            "ended_at": one.ended.occurred_at if one.ended else None,
            "ended_event_id": one.ended.event_id if one.ended else None,
            "outcome": one.outcome,
            "reason_code": getattr(one.ended, "reason_code", None) if one.outcome == "rejected" else None,
            "owner_id": one.owner_id,
            "team_id": one.team_id,
        }


def all_pauses(clock: Clock) -> list[Pause]:
    """The pauses with the open one as far as it can reach."""
    if not clock.is_paused():
        return clock.pauses
    return [*clock.pauses[:-1], (clock.pauses[-1][0], clock.pause_end())]


def warn_instants(journey: Journey, clock: Clock) -> list[tuple[float, int | None]]:
    calendar, start = journey.calendar_of(clock, clock.stopped_at), clock.started.occurred_at
    return [
        (float(share), due(calendar, start, int(Fraction(str(share)) * target(clock)), all_pauses(clock)))
        for share in as_list(clock.policy.get("warn_at", [0.8]))
    ]


def sla_clock(journey: Journey) -> Iterator[Row]:
    for clock in journey.clocks:
        calendar, start = journey.calendar_of(clock, clock.stopped_at), clock.started.occurred_at
        yield {
            "policy_id": clock.policy["id"],
            "clock_no": clock.clock_no,
            "started_at": start,
            "started_event_id": clock.started.event_id,
            "warn_at": min(warn_instants(journey, clock), key=lambda warning: warning[0])[1],
            "due_at": due(calendar, start, target(clock), all_pauses(clock)),
            "stopped_at": clock.stopped_at,
            "stopped_event_id": clock.stopped.event_id if clock.stopped else None,
            "stopped_recorded_at": clock.stopped.recorded_at if clock.stopped else None,
            "business_seconds_used": used_seconds(clock, calendar),
            "paused_seconds": seconds(closed_pauses(clock.pauses)),
            "paused_from": clock.pauses[-1][0] if clock.is_paused() else None,
            "paused_until": clock.pause_end() if clock.is_paused() else None,
            "owner_id": clock.owner_id,
            "team_id": clock.team_id,
            "cancelled_reason": clock.cancelled_reason,
            "calendar_id": calendar_id_of(clock),
        }


def used_seconds(clock: Clock, calendar: Row | None) -> float | None:
    if clock.stopped_at is None:
        return None
    paused = sum(elapsed(calendar, since, until or since) for since, until in clock.pauses)
    return seconds(elapsed(calendar, clock.started.occurred_at, clock.stopped_at) - paused)


def sla_warning(journey: Journey) -> Iterator[Row]:
    for clock in journey.clocks:
        for share, warn_at in warn_instants(journey, clock):
            row: Row = {"policy_id": clock.policy["id"], "clock_no": clock.clock_no}
            yield row | {"share": share, "warn_at": warn_at}


def opportunity(journey: Journey) -> Iterator[Row]:
    for opportunity_id, one in journey.opportunities.items():
        win = journey.win_in_force(opportunity_id)
        yield {
            "opportunity_id": opportunity_id,
            "account_id": one.account_id,
            "status": one.status,
            "opened_at": one.opened_at,
            "closed_at": one.closed_at,
            "amount_minor": one.amount_minor,
            "adjusted_minor": sum(x.delta_minor for x in win.adjustments) if win else 0,
            "currency": one.currency,
            "loss_reason": one.loss_reason,
            "first_event_at": one.first.occurred_at,
            "first_event_id": one.first.event_id,
            "first_event_sequence": one.first.source_sequence,
        }


def models_of(definition: Row) -> list[Row]:
    return (definition.get("attribution") or {}).get("models") or [{"id": name} for name in DEFAULT_MODELS]


def eligible(journey: Journey, win: Win) -> list[r.TouchRecorded | r.CampaignExposed]:
    settings = win.definition.get("attribution") or {}
    lookback = duration(settings.get("lookback", "365d"))
    wanted = {"direction": "inbound"} | (settings.get("touches") or {})
    return [
        event
        for event in journey.events
        if 0 <= win.event.occurred_at - event.occurred_at <= lookback
        and (
            (isinstance(event, r.TouchRecorded) and touch_matches(win.definition, wanted, event))
            or (
                isinstance(event, r.CampaignExposed)
                and event.exposure_type in as_list(settings.get("exposures") or [])
            )
        )
    ]


def path_of_win(win: Win, touches: list[r.TouchRecorded | r.CampaignExposed]) -> Path:
    channels = [channel_of(win.definition, touch) for touch in touches]
    times = [touch.occurred_at for touch in touches]
    return path_of(times, channels, win.known_at, win.opened_at, win.event.occurred_at)


def touch_rows(journey: Journey, win: Win) -> Iterator[tuple[Row, list[Fraction]]]:
    """For each row of a win: the columns of the touch, and its weight in every model."""
    touches = eligible(journey, win)
    if not touches:
        names = ["touched_at", "campaign_id", "offer_id"]
        blank: Row = dict.fromkeys(names)
        alone = {"touch_event_id": "", "channel": "unattributed", "positions": ""}
        yield blank | alone, [Fraction(1)] * len(models_of(win.definition))
        return
    path = path_of_win(win, touches)
    weights = [weights_of(model, path) for model in models_of(win.definition)]
    for place, touch in enumerate(touches):
        yield (
            {
                "touch_event_id": touch.event_id,
                "touched_at": touch.occurred_at,
                "channel": path.channels[place],
                "campaign_id": touch.campaign_id,
                "offer_id": touch.offer_id,
                "positions": ",".join(x for x in ("FT", "LC", "OC", "CW") if getattr(path, x) == place),
            },
            [of_model[place] for of_model in weights],
        )


def entries_of(win: Win) -> Iterator[tuple[str, r.Record, int, list[int]]]:
    """What a win books: kind, causing event, effective instant, and the amounts to split."""
    deltas = [adjustment.delta_minor for adjustment in win.adjustments]
    yield "win", win.event, win.event.occurred_at, [win.event.amount_minor]
    for adjustment in win.adjustments:
        yield "adjustment", adjustment, adjustment.effective_at, [adjustment.delta_minor]
    if win.undone is not None:
        yield "reversal", win.undone, win.undone.occurred_at, [win.event.amount_minor, *deltas]


def credit(journey: Journey) -> Iterator[Row]:
    for win in journey.wins:
        rows = list(touch_rows(journey, win))
        names = [str(model.get("name") or model["id"]) for model in models_of(win.definition)]
        for kind, event, effective_at, amounts in entries_of(win):
            sign = -1 if kind == "reversal" else 1
            by_model = zip(*(weights for _, weights in rows), strict=True)
            parts = [[split(amount, list(column)) for amount in amounts] for column in by_model]
            for place, (columns, weights) in enumerate(rows):
                yield columns | {
                    "opportunity_id": win.event.opportunity_id,
                    "kind": kind,
                    "event_id": event.event_id,
                    "effective_at": effective_at,
                    "won_at": win.event.occurred_at,
                    "currency": win.event.currency,
                    "models": names,
                    "weights": [float(weight) for weight in weights],
                    "amounts": [sign * sum(one[place] for one in of_model) for of_model in parts],
                }


def journey_tables(journey: Journey, fault_count: int) -> dict[str, list[Row]]:
    if not journey.events:
        return {}
    return {
        "lead_state": [lead_state(journey, fault_count)],
        "lead_money": list(lead_money(journey)),
        "stage_visit": list(stage_visit(journey)),
        "handoff": list(handoff(journey)),
        "sla_clock": list(sla_clock(journey)),
        "sla_warning": list(sla_warning(journey)),
        "opportunity": list(opportunity(journey)),
        "credit": list(credit(journey)),
    }


def touch_row(event: r.TouchRecorded, definition: Row) -> Row:
    names = ("event_id", "subject_id", "recorded_at", "touch_type", "direction", "campaign_id", "offer_id")
    fields = {name: getattr(event, name) for name in (*names, "content_id", "source", "source_sequence")}
    parts = ("source", "medium", "campaign", "term", "content")
    utm = {f"utm_{part}": getattr(event.utm, part) if event.utm else None for part in parts}
    channels = {"channel": channel_of(definition, event), "channel_sent": event.channel}
    return fields | utm | channels | {"touched_at": event.occurred_at}


def exposure_row(event: r.CampaignExposed, definition: Row) -> Row:
    names = ("event_id", "exposure_type", "campaign_id", "offer_id")
    fields = {name: getattr(event, name) for name in names}
    return fields | {"channel": channel_of(definition, event), "exposed_at": event.occurred_at}


def meeting_row(event: r.MeetingHeld) -> Row:
    fields = {name: getattr(event, name) for name in ("event_id", "meeting_id", "kind", "outcome", "source")}
    return fields | {"held_at": event.occurred_at, "has_summary": event.summary not in (None, "")}


def content_row(event: r.ContentRequested | r.ContentDelivered) -> Row:
    names = ("event_id", "request_id", "topic", "asset_type", "content_id")
    fields = {name: getattr(event, name) for name in names}
    return fields | {"happened_at": event.occurred_at, "is_delivery": type(event) is r.ContentDelivered}


def attribute_row(event: r.AttributeChanged) -> Row:
    value = event.value
    text = None if value is None else str(value)
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))
    return {
        "event_id": event.event_id,
        "name": event.name,
        "value": text,
        "number_value": value if type(value) is float else None,
        "changed_at": event.occurred_at,
        "source_sequence": event.source_sequence,
    }


def event_tables(mine: list[r.Record], versions: Versions, erased: set[str]) -> dict[str, list[Row]]:
    """The rows that show one event each."""
    personal = {name for _, definition in versions for name in definition.get("personal", ())}
    names = ("touch", "campaign_exposure", "meeting", "content_event", "attribute_change")
    found: dict[str, list[Row]] = {name: [] for name in names}
    for event in mine:
        is_hidden = event.subject_id in erased and event.actor.id == event.subject_id
        actor = {"actor_kind": event.actor.kind, "actor_id": None if is_hidden else event.actor.id}
        definition = version_at(versions, event.occurred_at)
        if isinstance(event, r.TouchRecorded):
            found["touch"].append(touch_row(event, definition) | actor)
        elif isinstance(event, r.CampaignExposed):
            found["campaign_exposure"].append(exposure_row(event, definition))
        elif isinstance(event, r.MeetingHeld):
            found["meeting"].append(meeting_row(event) | actor)
        elif isinstance(event, r.ContentRequested | r.ContentDelivered):
            found["content_event"].append(content_row(event) | actor)
        elif isinstance(event, r.AttributeChanged) and event.name not in personal:
            found["attribute_change"].append(attribute_row(event))
    return found


def fault_row(event: r.Record, copy_no: int, code: str) -> Row:
    return {
        "event_id": event.event_id,
        "copy_no": copy_no,
        "record_name": type(event).__name__,
        "code": code,
        "occurred_at": event.occurred_at,
    }


def calendar_facts(log: Log) -> list[r.CalendarChanged]:
    """The calendar facts that count, in order."""
    facts = [of_id[0] for event_id, of_id in log.copies.items() if event_id not in log.faults]
    return sorted((fact for fact in facts if isinstance(fact, r.CalendarChanged)), key=r.order_key)


def stateless_faults(log: Log, subjects: set[str]) -> Iterator[Row]:
    for event_id, of_id in log.copies.items():
        for copy_no, copy in enumerate(of_id, start=1):
            code = log.faults.get(event_id) if copy_no == 1 else "conflict"
            if code and copy.subject_id in subjects and not isinstance(copy, r.ReferenceFact):
                yield fault_row(copy, copy_no, code)


def fold_journey(log: Log, subjects: set[str], versions: Versions, erased: set[str]) -> dict[str, list[Row]]:
    journey = Journey(versions, calendar_facts(log))
    winners = [of_id[0] for event_id, of_id in log.copies.items() if event_id not in log.faults]
    mine = sorted((event for event in winners if event.subject_id in subjects), key=r.order_key)
    unfolded = r.EventRetracted | r.SubjectsUnlinked | r.SubjectErased | r.ReferenceFact
    for event in mine:
        if not isinstance(event, unfolded):
            journey.step(event)
    journey.erase([event for event in mine if isinstance(event, r.SubjectErased)])
    faults = list(stateless_faults(log, subjects))
    faults += [fault_row(event, 1, code) for event, code in journey.faults]
    return journey_tables(journey, len(faults)) | event_tables(mine, versions, erased) | {"fault": faults}


@functools.lru_cache(maxsize=50)
def parsed(text: str) -> Row:
    return dict(yaml.safe_load(text))


def tables(records: Iterable[r.Record], timeline: Timeline) -> dict[str, list[Row]]:
    """Table name to rows (column to value, instants in microseconds) of a whole log under a timeline."""
    records = list(records)
    log = resolve(records)
    erased = {x.subject_id for x in records if isinstance(x, r.SubjectErased) and not is_from_the_future(x)}
    versions = [(start, parsed(text)) for start, text in timeline]
    label = "+".join(f"{body['definition_id']}@{body['version']}" for _, body in versions)
    journeys = journeys_of(log)
    result: dict[str, list[Row]] = {}
    for journey_id in sorted(set(journeys.values()), key=str.encode):
        subjects = {subject for subject, journey in journeys.items() if journey == journey_id}
        for table, rows in fold_journey(log, subjects, versions, erased).items():
            same = {"journey_id": journey_id} | (
                {} if table == "sla_warning" else {"definition_version": label}
            )
            result.setdefault(table, []).extend(row | same for row in rows)
    return result
