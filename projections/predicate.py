"""Predicates of a definition: when a stage is entered by rule, and which clocks a policy starts.

Promises: evaluation reads counters that the fold keeps, never the history, so one event costs the same in a
journey of ten events and of twenty thousand. Personal attributes cannot be named (`projections.definition`
refuses them), so an erasure never changes an answer. Leaves keeping the counters to the fold: see `Facts`.

In a definition file a predicate is a mapping with one key: `all`, `any`, `not`, `score_at_least`, `touch`
(conditions on its fields, `at_least`, `within`), `attribute` (`name`, and one or more of `is`, `in`,
`at_least`, `at_most`, `exists`), or `event` (a record name or several).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, get_args

from projections.yaml_tree import Node, Reading
from schemas.records import Direction, LeadEvent, Micros, TouchRecorded, TouchType

AttributeValue = str | float | bool | None
"""As in `AttributeChanged`; null means that the attribute does not exist."""
Comparable = str | float
Values = frozenset[str] | None
"""What a field may be; None = anything, also nothing."""

TOUCH_TYPES: tuple[str, ...] = get_args(TouchType)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
COUNTED_RECORDS = (
    *(r.__name__ for r in get_args(LeadEvent) if r.__name__ not in ("EventRetracted", "CampaignExposed")),
    "SubjectsLinked",
)
"""Records that an `event` predicate may ask for: those that are folded, but exposures, which never count."""


class Facts(Protocol):
    """What the fold keeps of one journey for predicates. All but `attributes` restart at each return.

    `touch_times[p.index]` holds the instants of the last `p.at_least` touches that `p.matches`, oldest first,
    for every p of `Definition.touch_predicates`. `seen` holds the record names folded, `attributes` current
    values.
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

    `one_of` holds comparable values (see `comparable`); `at_least` and `at_most` are inclusive and hold for
    numbers only; `exists` false asks for an attribute without a value.
    """

    name: str
    one_of: frozenset[tuple[str, Comparable]] | None = None
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
        case AllOf():
            # Loops, here and below: asked at every event, and three times as fast as a generator in all().
            for part in predicate.parts:  # noqa: SIM110
                if not evaluate(part, facts, now):
                    return False
            return True
        case AnyOf():
            for part in predicate.parts:  # noqa: SIM110
                if evaluate(part, facts, now):
                    return True
            return False
        case Not():
            return not evaluate(predicate.part, facts, now)
        case ScoreAtLeast():
            return facts.score >= predicate.points
        case TouchPredicate():
            return _enough_touches(predicate, facts.touch_times[predicate.index], now)
        case AttributeCondition():
            return _attribute_holds(predicate, facts.attributes.get(predicate.name))
        case EventSeen():
            return not predicate.records.isdisjoint(facts.seen)


def comparable(value: Comparable) -> tuple[str, Comparable]:
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


def _in_range(condition: AttributeCondition, value: str | float) -> bool:
    low, high = condition.at_least, condition.at_most
    if low is None and high is None:
        return True
    if isinstance(value, (bool, str)):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


TOUCH_KEYS = ("touch_type", "direction", "channel", "campaign_id", "offer_id")
"""Keys of a touch filter in a definition file."""
_CONDITIONS = ("is", "in", "at_least", "at_most", "exists")
MAX_TOUCHES = 1_000
"""Most touches that a predicate may ask for: the fold keeps so many instants of each journey."""


def read_touch_filter(reading: Reading, given: Mapping[str, Node]) -> TouchFilter:
    """The filter of the TOUCH_KEYS among the given fields."""
    return TouchFilter(
        touch_type=reading.choices(given["touch_type"], TOUCH_TYPES) if "touch_type" in given else None,
        direction=reading.choices(given["direction"], DIRECTIONS) if "direction" in given else None,
        channel=reading.names(given["channel"]) if "channel" in given else None,
        campaign_id=reading.names(given["campaign_id"]) if "campaign_id" in given else None,
        offer_id=reading.names(given["offer_id"]) if "offer_id" in given else None,
    )


@dataclass(slots=True)
class PredicateReader:
    """Reads the predicates of one definition, numbering their touch predicates in the order they are read."""

    reading: Reading
    personal: frozenset[str]
    touches: list[TouchPredicate] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)

    def read(self, node: Node) -> Predicate:
        """The predicate at a node; faults go to `reading`, and the result then means nothing."""
        kinds = ("all", "any", "not", "score_at_least", "touch", "attribute", "event")
        given = self.reading.fields(node, (), kinds)
        if len(given) != 1:
            if isinstance(node.value, dict) and node.value.keys() <= set(kinds):
                self.reading.fault(node, "one key; put several conditions under all or any", _listed(given))
            return AllOf(())
        ((kind, part),) = given.items()
        return self._read_kind(kind, part)

    def _read_kind(self, kind: str, node: Node) -> Predicate:
        match kind:
            case "all":
                return AllOf(tuple(self.read(part) for part in self.reading.some(node)))
            case "any":
                return AnyOf(tuple(self.read(part) for part in self.reading.some(node)))
            case "not":
                return Not(self.read(node))
            case "score_at_least":
                return ScoreAtLeast(self.reading.integer(node))
            case "touch":
                return self._read_touch(node)
            case "attribute":
                return self._read_attribute(node)
            case _:
                return EventSeen(self.reading.choices(node, COUNTED_RECORDS))

    def _read_touch(self, node: Node) -> TouchPredicate:
        given = self.reading.fields(node, (), (*TOUCH_KEYS, "at_least", "within"))
        found = TouchPredicate(
            index=len(self.touches),
            filter=read_touch_filter(self.reading, given),
            at_least=self.reading.integer(given["at_least"], 1, MAX_TOUCHES) if "at_least" in given else 1,
            within=self.reading.duration(given["within"]) if "within" in given else None,
        )
        self.touches.append(found)
        return found

    def _read_attribute(self, node: Node) -> AttributeCondition:
        given = self.reading.fields(node, ("name",), _CONDITIONS)
        name = self.reading.name(given.get("name"))
        if name in self.personal:
            self.reading.fault(
                given["name"], "an attribute that is not personal: erasure must not change a rule"
            )
        if given and not any(condition in given for condition in _CONDITIONS):
            self.reading.fault(node, f"one of {', '.join(_CONDITIONS)} beside the name", "no condition")
        if "is" in given and "in" in given:
            self.reading.fault(given["in"], "either is or in")
        self.attributes.add(name)
        return AttributeCondition(
            name=name,
            one_of=self._read_values(given),
            at_least=self._read_number(given["at_least"]) if "at_least" in given else None,
            at_most=self._read_number(given["at_most"]) if "at_most" in given else None,
            exists=self.reading.boolean(given["exists"]) if "exists" in given else None,
        )

    def _read_values(self, given: Mapping[str, Node]) -> frozenset[tuple[str, Comparable]] | None:
        if "is" in given:
            return frozenset({self._read_value(given["is"])})
        if "in" in given:
            return frozenset(self._read_value(item) for item in self.reading.one_or_more(given["in"]))
        return None

    def _read_value(self, node: Node) -> tuple[str, Comparable]:
        if isinstance(node.value, bool):
            return comparable(node.value)
        if isinstance(node.value, int | Fraction):
            return comparable(self._read_number(node))
        return comparable(self.reading.text(node))

    def _read_number(self, node: Node) -> float:
        """As a double when it is no whole number (50.0 is one), like the values that it is compared with."""
        found = self.reading.number(node)
        return int(found) if found.denominator == 1 else float(found)


def _listed(given: Mapping[str, Node]) -> str:
    return " and ".join(given) or "nothing"
