"""Predicates of a definition: when a stage is entered by rule, and which clocks a policy starts.

Promises: evaluation reads counters that the fold keeps, never the history, so one event costs the same in a journey
of ten events and of twenty thousand. Personal attributes cannot be named (`projections.definition` refuses them), so
an erasure never changes an answer. Leaves keeping the counters to the fold: see `Facts`.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from schemas.records import Micros, TouchRecorded

AttributeValue = str | float | bool | None
"""As in `AttributeChanged`; null means that the attribute does not exist."""
Values = frozenset[str] | None
"""What a field may be; None = anything, also nothing."""


class Facts(Protocol):
    """What the fold keeps of one journey for predicates. All but `attributes` restart at each return.

    `touch_times[p.index]` holds the instants of the last `p.at_least` touches that `p.matches`, oldest first, for
    every p of `Definition.touch_predicates`. `seen` holds the record names folded, `attributes` current values.
    """

    @property
    def score(self) -> int: ...
    @property
    def touch_times(self) -> Sequence[Sequence[Micros]]: ...
    @property
    def seen(self) -> AbstractSet[str]: ...
    @property
    def attributes(self) -> Mapping[str, AttributeValue]: ...


@dataclass(frozen=True, slots=True)
class TouchFilter:
    """Conditions on the fields of a touch; a field without condition may be anything."""

    touch_type: Values = None
    direction: Values = None
    channel: Values = None
    campaign_id: Values = None
    offer_id: Values = None

    def matches(self, touch: TouchRecorded, channel: str) -> bool:
        """Whether the touch, seen on `channel` after the channel rules, meets every condition."""
        return (
            (self.touch_type is None or touch.touch_type in self.touch_type)
            and (self.direction is None or touch.direction in self.direction)
            and (self.channel is None or channel in self.channel)
            and (self.campaign_id is None or touch.campaign_id in self.campaign_id)
            and (self.offer_id is None or touch.offer_id in self.offer_id)
        )


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Predicate"


@dataclass(frozen=True, slots=True)
class ScoreAtLeast:
    points: int


@dataclass(frozen=True, slots=True)
class TouchPredicate:
    """At least `at_least` touches of the filter, all within the last `within` microseconds (None = ever).

    `index` numbers the touch predicates of one definition from 0, stages first, then policies, in file order.
    """

    index: int
    filter: TouchFilter
    at_least: int
    within: int | None

    def matches(self, touch: TouchRecorded, channel: str) -> bool:
        """Whether the touch counts here; `channel` is the one after the channel rules."""
        return self.filter.matches(touch, channel)


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """Every condition that is given holds for the attribute's current value.

    `one_of` holds comparable values (see `comparable`); `at_least` and `at_most` are inclusive and hold for numbers
    only; `exists` false asks for an attribute without a value.
    """

    name: str
    one_of: frozenset[tuple[str, AttributeValue]] | None = None
    at_least: float | None = None
    at_most: float | None = None
    exists: bool | None = None


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One event of these record names has happened."""

    records: frozenset[str]


Predicate = AllOf | AnyOf | Not | ScoreAtLeast | TouchPredicate | AttributeCondition | EventSeen


def evaluate(predicate: Predicate, facts: Facts, now: Micros) -> bool:
    """Whether the predicate holds at the instant `now`, that of the event being folded."""
    match predicate:
        case AllOf(parts):
            return all(evaluate(part, facts, now) for part in parts)
        case AnyOf(parts):
            return any(evaluate(part, facts, now) for part in parts)
        case Not(part):
            return not evaluate(part, facts, now)
        case ScoreAtLeast(points):
            return facts.score >= points
        case TouchPredicate():
            return _enough_touches(predicate, facts.touch_times[predicate.index], now)
        case AttributeCondition():
            return _attribute_holds(predicate, facts.attributes.get(predicate.name))
        case EventSeen(records):
            return not records.isdisjoint(facts.seen)


def comparable(value: AttributeValue) -> tuple[str, AttributeValue]:
    """A key under which values are equal as the contract says: 1 is 1.0, but true is neither 1 nor "true"."""
    if isinstance(value, bool):
        return ("boolean", value)
    return ("text" if isinstance(value, str) else "number", value)


def _enough_touches(predicate: TouchPredicate, times: Sequence[Micros], now: Micros) -> bool:
    if len(times) < predicate.at_least:
        return False
    return predicate.within is None or now - times[-predicate.at_least] <= predicate.within


def _attribute_holds(condition: AttributeCondition, value: AttributeValue) -> bool:
    if value is None:
        return condition.exists is False
    if condition.exists is False:
        return False
    if condition.one_of is not None and comparable(value) not in condition.one_of:
        return False
    return _in_range(condition, value)


def _in_range(condition: AttributeCondition, value: str | float | bool) -> bool:
    low, high = condition.at_least, condition.at_most
    if low is None and high is None:
        return True
    if isinstance(value, (bool, str)):
        return False
    return (low is None or value >= low) and (high is None or value <= high)
