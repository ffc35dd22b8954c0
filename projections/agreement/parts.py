"""A definition as a tree of parts, each with its place in the file and its words.

Promises: all that a definition says is in some part, and what is not written counts as its default, without a
line. Leaves comparing two trees to `projections.agreement.diff`.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from projections.agreement import words
from projections.business_time import WEEKDAYS
from projections.definition import Definition
from projections.predicate import (
    TOUCH_TYPES,
    AllOf,
    AnyOf,
    AttributeCondition,
    Not,
    Predicate,
    TouchPredicate,
)
from projections.sla_policy import Policy, Trigger
from projections.yaml_tree import Node

CONDITIONS = ("all", "any", "not", "score_at_least", "touch", "attribute", "event")
"""Kinds of the parts of a predicate, as in the file."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the file and the value there, if it is written."""

    path: str
    node: Node | None

    @property
    def line(self) -> int | None:
        """The line of the value; None if nothing is written."""
        return self.node.line if self.node is not None else None

    def __getitem__(self, key: str) -> "Place":
        value = self.node.value if self.node is not None else None
        found = value.get(key) if isinstance(value, dict) else None
        is_written = found is not None and found.value is not None
        return Place(f"{self.path}.{key}" if self.path else key, found if is_written else None)

    def items(self) -> list["Place"]:
        """The items of a list; one value is a list of itself."""
        value = self.node.value if self.node is not None else None
        nodes = value if isinstance(value, list) else [self.node] if self.node is not None else []
        return [Place(node.path, node) for node in nodes if node is not None]

    def part(self, kind: str, key: Hashable, words: str, children: Iterable["Part"] = ()) -> "Part":
        """The part that stands here."""
        return Part(kind, key, words, self, tuple(children))

    def named(self, kind: str, names: Iterable[str]) -> Iterator["Part"]:
        """A part for each name; those that are written here with their own lines."""
        places = {_value(item): item for item in self.items() if isinstance(_value(item), str)}
        for each in sorted(names):
            yield places.get(each, self).part(kind, each, words.name(each))


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a definition says.

    `kind` decides the sentence, `key` names the part among its like (a stage by its role). A part with
    children says nothing but what they say.
    """

    kind: str
    key: Hashable
    words: str
    place: Place
    children: tuple["Part", ...] = ()


def _value(place: Place) -> object:
    return place.node.value if place.node is not None else None


def parts_of(definition: Definition) -> tuple[Part, ...]:
    """The parts of a definition, in the order of the file's sections."""
    root = Place("", definition.root)
    return (
        root["definition_id"].part("definition_id", None, definition.definition_id),
        root["version"].part("version", None, str(definition.version)),
        root["rationale"].part("rationale", None, definition.rationale),
        root["calendar"].part("calendar", None, words.name(definition.calendar)),
        *_stages(root["stages"], definition),
        *_scoring(root["scoring"], definition),
        *root["handoff"]["reject_reasons"].named("reject_reason", definition.reject_reasons),
        *_calendars(root["calendars"]),
        *_policies(root["sla"], definition),
        *_channels(root["channels"], definition),
        *_attribution(root["attribution"], definition),
        *root["personal"].named("personal", definition.personal),
    )


def _stages(place: Place, definition: Definition) -> Iterator[Part]:
    for item, stage in zip(place.items(), definition.stages, strict=True):
        children = [item["name"].part("stage_name", stage.role, words.name(stage.name))]
        if stage.enter is not None:
            children.append(_condition(item["enter"], stage.enter))
        yield item.part("stage", stage.role, words.name(stage.name), children)


def _condition(place: Place, predicate: Predicate) -> Part:
    """A predicate, which is a mapping with one key."""
    assert place.node is not None
    assert isinstance(place.node.value, dict)
    [(kind, _)] = place.node.value.items()
    inner, text = place[kind], words.condition(predicate)
    match predicate:
        case AllOf(parts) | AnyOf(parts):
            return inner.part(kind, text, text, map(_condition, inner.items(), parts))
        case Not(part):
            return inner.part(kind, text, text, [_condition(inner, part)])
        case TouchPredicate():
            return inner.part(kind, words.touches(predicate.filter), text)
        case AttributeCondition():
            return inner.part(kind, predicate.name, text)
    return inner.part(kind, None, text)


def _scoring(place: Place, definition: Definition) -> Iterator[Part]:
    for item, line in zip(place.items(), definition.scoring, strict=True):
        what = words.touches(line.filter)
        yield item.part("scoring", what, f"{what} gives {words.points(line)}")


def _calendars(place: Place) -> Iterator[Part]:
    calendars = _value(place)
    for calendar_id in calendars if isinstance(calendars, dict) else ():
        item = place[calendar_id]
        children = [
            item["zone"].part("zone", None, str(_value(item["zone"]))),
            *(_opening(item["weekly"][day], day) for day in WEEKDAYS),
            *item["holidays"].named("holiday", set(_texts(item["holidays"]))),
        ]
        yield item.part("hours", calendar_id, words.name(calendar_id), children)


def _opening(place: Place, day: str) -> Part:
    return place.part("opening", day, words.opening(map(_texts, place.items())))


def _texts(place: Place) -> list[str]:
    return [str(_value(item)) for item in place.items()]


def _policies(place: Place, definition: Definition) -> Iterator[Part]:
    for item, policy in zip(place.items(), definition.policies, strict=True):
        yield item.part("policy", policy.policy_id, words.name(policy.policy_id), _policy(item, policy))


def _policy(item: Place, policy: Policy) -> Iterator[Part]:
    yield from _trigger("start", item["start"], policy.start)
    yield from _trigger("stop", item["stop"], policy.stop)
    yield item["target"].part("target", None, words.target(policy))
    time = item["calendar"] if policy.calendar is not None else item["time"]
    yield time.part("time", None, words.measure(policy))
    yield item["warn_at"].part("warn_at", None, words.warnings(policy))
    yield item["max_pause"].part("max_pause", None, words.pause_limit(policy))
    if policy.filter is not None:
        yield _condition(item["filter"], policy.filter)


def _trigger(kind: str, place: Place, trigger: Trigger) -> Iterator[Part]:
    records, places = iter(trigger.records), dict[str, Place]()
    for item in place.items():
        entered = _value(item["entered"])
        text = words.trigger(next(records)) if entered is None else f"entry into {entered}"
        places.setdefault(text, item)
    for text, item in places.items():
        yield item.part(kind, text, text)


def _channels(place: Place, definition: Definition) -> Iterator[Part]:
    for item, rule in zip(place.items(), definition.channels, strict=True):
        what = words.classified(rule)
        yield item.part("channel", what, f"{what} is {words.name(rule.channel)}")


def _attribution(place: Place, definition: Definition) -> Iterator[Part]:
    attribution = definition.attribution
    touches = place["touches"]
    yield place["lookback"].part("lookback", None, words.duration(attribution.lookback))
    yield from touches["direction"].named("credit_direction", attribution.touches.direction or ())
    yield from touches["touch_type"].named("credit_touch", attribution.touches.touch_type or TOUCH_TYPES)
    yield from place["exposures"].named("exposure", attribution.exposures)
    written: Sequence[Place] = place["models"].items() or [place["models"]] * len(attribution.models)
    for item, model in zip(written, attribution.models, strict=True):
        yield item.part("model", model.name, words.model(model))
