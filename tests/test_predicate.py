"""Guards what a predicate sees: counters of the fold, inclusive durations, values compared by type."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from projections.predicate import (
    AttributeValue,
    Predicate,
    PredicateReader,
    TouchPredicate,
    evaluate,
)
from projections.yaml_tree import Reading, read
from schemas.records import Micros, TouchRecorded

DAY = 86_400_000_000
NOW = 100 * DAY


@dataclass
class Known:
    """What a fold would have counted."""

    score: int = 0
    touch_times: list[list[Micros]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


def compiled(body: Any) -> tuple[Predicate, list[TouchPredicate]]:
    """The predicate written as plain values, and its touch predicates."""
    reading = Reading()
    root = read(yaml.safe_dump(body), reading)
    assert root is not None
    reader = PredicateReader(reading, frozenset())
    predicate = reader.read(root)
    assert reading.faults == []
    return predicate, reader.touches


def holds(body: Any, **known: Any) -> bool:
    return evaluate(compiled(body)[0], Known(**known), NOW)


def touch(**fields: Any) -> TouchRecorded:
    given = {"touch_type": "form_submitted", "direction": "inbound", "channel": "web"} | fields
    return TouchRecorded(event_id="e", subject_id="s", occurred_at=0, recorded_at=0, source="t", **given)


def test_score_at_least_is_inclusive() -> None:
    """Fifty points are at least fifty."""
    assert holds({"score_at_least": 50}, score=50)
    assert not holds({"score_at_least": 50}, score=49)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], False),
        ([NOW], False),
        ([NOW - 30 * DAY, NOW], True),
        ([NOW - 30 * DAY - 1, NOW], False),
        ([NOW, NOW], True),
    ],
)
def test_touches_within_a_duration_are_inclusive(times: list[Micros], expected: bool) -> None:
    """Two touches within 30 days: the older one may be exactly 30 days ago."""
    body = {"touch": {"touch_type": "chat", "at_least": 2, "within": "30d"}}
    assert holds(body, touch_times=[times]) is expected


def test_touches_without_a_duration_count_for_ever() -> None:
    """At least 1 is what `at_least` means when it is left out."""
    assert holds({"touch": {"touch_type": "chat"}}, touch_times=[[0]])
    assert not holds({"touch": {"touch_type": "chat"}}, touch_times=[[]])


@pytest.mark.parametrize(
    ("conditions", "fields", "channel", "expected"),
    [
        ({"touch_type": "form_submitted"}, {}, "web", True),
        ({"touch_type": ["chat", "call"]}, {}, "web", False),
        ({"direction": "outbound"}, {}, "web", False),
        ({"channel": ["email", "paid_search"]}, {"channel": "mail"}, "email", True),
        ({"channel": "mail"}, {"channel": "mail"}, "email", False),
        ({"offer_id": "demo"}, {"offer_id": "demo"}, "web", True),
        ({"offer_id": "demo"}, {}, "web", False),
        ({"campaign_id": "c1"}, {"campaign_id": "c2"}, "web", False),
        ({}, {}, "web", True),
    ],
)
def test_a_touch_meets_every_condition(
    conditions: dict[str, Any], fields: dict[str, Any], channel: str, expected: bool
) -> None:
    """One value or several; the channel is the one after the channel rules; a missing field meets none."""
    _, (predicate,) = compiled({"touch": conditions})
    assert predicate.matches(touch(**fields), channel) is expected


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ({"is": True}, True, True),
        ({"is": True}, False, False),
        ({"is": True}, 1.0, False),
        ({"is": True}, "true", False),
        ({"is": 1}, 1.0, True),
        ({"is": 1}, True, False),
        ({"is": 1}, "1", False),
        ({"is": 0.1}, 0.1, True),
        ({"is": "DE"}, "de", False),
        ({"in": ["DE", 50, True]}, 50.0, True),
        ({"in": ["DE", 50, True]}, 1.0, False),
        ({"in": "DE"}, "DE", True),
        ({"in": ["DE"]}, None, False),
        ({"at_least": 50}, 50.0, True),
        ({"at_least": 50}, 49.9, False),
        ({"at_least": 0}, True, False),
        ({"at_least": 5}, "50", False),
        ({"at_most": 10}, 10.0, True),
        ({"at_most": 10}, 10.1, False),
        ({"at_most": 10}, "1", False),
        ({"at_least": 1, "at_most": 10}, 11.0, False),
        ({"at_least": 0}, float("nan"), False),
        ({"exists": True}, False, True),
        ({"exists": True}, "", True),
        ({"exists": True}, None, False),
        ({"exists": False}, None, True),
        ({"exists": False}, 0.0, False),
        ({"in": ["A", "B"], "exists": True}, "C", False),
    ],
)
def test_attributes_compare_by_type_and_value(
    condition: dict[str, Any], value: AttributeValue, expected: bool
) -> None:
    """1 is 1.0, true is not 1, null does not exist; ranges are inclusive and of numbers only."""
    assert holds({"attribute": {"name": "a"} | condition}, attributes={"a": value}) is expected


def test_an_attribute_never_set_does_not_exist() -> None:
    """Never set and set to null are the same."""
    assert holds({"attribute": {"name": "a", "exists": False}})
    assert not holds({"attribute": {"name": "a", "is": False}})


def test_an_event_has_happened() -> None:
    """One of several names is enough."""
    assert holds({"event": ["MeetingHeld", "LeadAssigned"]}, seen={"MeetingHeld"})
    assert not holds({"event": "MeetingHeld"}, seen={"TouchRecorded"})


def test_all_any_and_not_combine() -> None:
    """As in logic, at any depth."""
    high, low = {"score_at_least": 10}, {"score_at_least": 1}
    assert holds({"all": [low, {"not": high}]}, score=5)
    assert not holds({"all": [low, high]}, score=5)
    assert holds({"any": [high, {"all": [low]}]}, score=5)
    assert not holds({"not": {"any": [low, high]}}, score=5)


def test_touch_predicates_are_numbered_as_they_are_read() -> None:
    """The index of each is its place among the touch predicates, so the fold can count by it."""
    body = {
        "any": [{"touch": {"touch_type": "chat"}}, {"not": {"touch": {"touch_type": "call", "at_least": 3}}}]
    }
    predicate, touches = compiled(body)
    assert [(found.index, found.at_least) for found in touches] == [(0, 1), (1, 3)]
    assert evaluate(predicate, Known(touch_times=[[], [1, 2]]), NOW)
    assert not evaluate(predicate, Known(touch_times=[[], [1, 2, 3]]), NOW)
