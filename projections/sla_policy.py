"""SLA policies of a definition: what starts and stops a clock, its target and its warnings.

Promises: a policy that was read can start, can stop, and names a calendar that exists. Leaves running clocks,
pauses and due times to `projections.sla_clock`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from projections.predicate import DIRECTIONS, TOUCH_TYPES, Predicate, PredicateReader, Values
from projections.roles import ROLES
from projections.yaml_tree import Node, Reading
from schemas.records import ActorKind, Envelope, LeadEvent, TouchRecorded

ACTOR_KINDS: tuple[str, ...] = get_args(ActorKind)
CLOCK_RECORDS = (
    *(r.__name__ for r in get_args(LeadEvent) if r.__name__ != "EventRetracted"),
    "SubjectsLinked",
)
"""Records that can start or stop a clock: those that are folded."""
_OPTIONAL = ("time", "calendar", "warn_at", "filter", "max_pause")
_TOUCH_ONLY = ("direction", "touch_type")
_TRIGGER = ("entered", "record", *_TOUCH_ONLY, "actor")
DEFAULT_WARN_AT = Fraction(4, 5)
"""Share of the target at which a policy without `warn_at` warns."""


@dataclass(frozen=True, slots=True)
class RecordMatch:
    """An event of the record whose fields are as asked; None = anything."""

    record: str
    direction: Values = None
    touch_type: Values = None
    actor: Values = None

    def matches(self, event: Envelope) -> bool:
        """Whether the event is such a one. Direction and touch type are asked of touches only."""
        if type(event).__name__ != self.record or not (self.actor is None or event.actor.kind in self.actor):
            return False
        if not isinstance(event, TouchRecorded):
            return True
        return (self.direction is None or event.direction in self.direction) and (
            self.touch_type is None or event.touch_type in self.touch_type
        )


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts, or what stops, the clocks of a policy."""

    roles: frozenset[str]
    records: tuple[RecordMatch, ...]

    def at_entry(self, role: str) -> bool:
        """Whether entering a stage of the role triggers."""
        return role in self.roles

    def at_event(self, event: Envelope) -> bool:
        """Whether the event itself, whatever stage it leads to, triggers."""
        return any(record.matches(event) for record in self.records)


@dataclass(frozen=True, slots=True)
class Warning:
    """`after` = share x target in microseconds of the policy's time, floored."""

    share: float
    after: int


@dataclass(frozen=True, slots=True)
class Policy:
    """An SLA policy. `target` and `max_pause` in microseconds; `calendar` None = calendar time."""

    policy_id: str
    start: Trigger
    stop: Trigger
    target: int
    calendar: str | None
    warnings: tuple[Warning, ...]
    filter: Predicate | None
    max_pause: int | None


def read_policies(
    reading: Reading,
    node: Node | None,
    roles: Collection[str],
    calendars: Collection[str],
    predicates: PredicateReader,
) -> tuple[Policy, ...]:
    """The section `sla`, given the roles and calendar ids of the definition."""
    needed = ("id", "start", "stop", "target")
    given = [reading.fields(item, needed, _OPTIONAL) for item in reading.items(node)]
    policies = tuple(_policy(reading, fields, roles, calendars, predicates) for fields in given)
    ids = [fields.get("id") for fields in given]
    reading.unique(zip(ids, (policy.policy_id for policy in policies), strict=True), "an id")
    return policies


def _policy(
    reading: Reading,
    given: Mapping[str, Node],
    roles: Collection[str],
    calendars: Collection[str],
    predicates: PredicateReader,
) -> Policy:
    target = reading.duration(given.get("target"))
    return Policy(
        policy_id=reading.name(given.get("id")),
        start=_trigger(reading, given.get("start"), roles),
        stop=_trigger(reading, given.get("stop"), roles),
        target=target,
        calendar=_calendar(reading, given, calendars),
        warnings=_warnings(reading, given.get("warn_at"), target),
        filter=predicates.read(given["filter"]) if "filter" in given else None,
        max_pause=reading.duration(given["max_pause"]) if "max_pause" in given else None,
    )


def _trigger(reading: Reading, node: Node | None, roles: Collection[str]) -> Trigger:
    entered, records = set[str](), list[RecordMatch]()
    for item in reading.some(node):
        given = reading.fields(item, (), _TRIGGER)
        if "record" in given and "entered" not in given:
            records.append(_record_match(reading, given))
        elif given.keys() == {"entered"}:
            entered.add(reading.choice(given["entered"], ROLES))
        elif isinstance(item.value, dict) and item.value.keys() <= set(_TRIGGER):
            reading.fault(
                item,
                "either `entered: ROLE` or `record: NAME` with conditions",
                " and ".join(given) or "nothing",
            )
    is_told = "" in entered or "" in roles  # a role with a fault may be the one meant
    if node is not None and entered and not records and not is_told and entered.isdisjoint(roles):
        reading.fault(
            node,
            f"something that can happen: no stage has the role {' or '.join(sorted(entered))}",
            "entered",
        )
    return Trigger(frozenset(entered), tuple(records))


def _record_match(reading: Reading, given: Mapping[str, Node]) -> RecordMatch:
    record = reading.choice(given["record"], CLOCK_RECORDS)
    for key in _TOUCH_ONLY:
        if key in given and record not in ("", "TouchRecorded"):
            reading.fault(given[key], f"no {key}: {record} has none")
    return RecordMatch(
        record=record,
        direction=reading.choices(given["direction"], DIRECTIONS) if "direction" in given else None,
        touch_type=reading.choices(given["touch_type"], TOUCH_TYPES) if "touch_type" in given else None,
        actor=reading.choices(given["actor"], ACTOR_KINDS) if "actor" in given else None,
    )


def _calendar(reading: Reading, given: Mapping[str, Node], calendars: Collection[str]) -> str | None:
    """Business time on the calendar named, or None for calendar time. A named calendar means business
    time."""
    calendar = reading.choice(given["calendar"], tuple(calendars)) if "calendar" in given else None
    time = reading.choice(given["time"], ("business", "calendar")) if "time" in given else None
    if time == "business" and calendar is None:
        reading.fault(given["time"], "a calendar too: business time is that of a calendar")
    return None if time == "calendar" else calendar


def _warnings(reading: Reading, node: Node | None, target: int) -> tuple[Warning, ...]:
    if node is None:
        return (_warning(DEFAULT_WARN_AT, target),)
    nodes = [] if node.value == [] else reading.one_or_more(node)
    shares = [Fraction(reading.number(item)) for item in nodes]
    for item, share in zip(nodes, shares, strict=True):
        if isinstance(item.value, int | Fraction) and not 0 < share <= 1:
            reading.fault(item, "a share of the target above 0, at most 1")
    reading.unique(zip(nodes, map(str, shares), strict=True), "a share")
    return tuple(_warning(share, target) for share in sorted(shares))


def _warning(share: Fraction, target: int) -> Warning:
    return Warning(share=float(share), after=math.floor(share * target))
