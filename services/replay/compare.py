"""Rows of two versions of one journey, by keys that do not shift, and what differs.

Promises: numbers that count up within a journey are no part of a key nor of a difference, and neither is the
name of the definition. Credit is compared model by model, as BI reads it. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from projections.journey import EVENT_TABLES, TABLES, Rows

Key = tuple[object, ...]
Values = dict[str, object]
Keyed = dict[tuple[str, Key], Values]
"""Table and key to a row."""

LABEL = "definition_version"
"""Names the definition in every row."""
KEYS = {
    "lead_state": ("journey_id",),
    "lead_money": ("journey_id", "currency"),
    "stage_visit": ("journey_id", "entered_event_id", "stage"),
    "handoff": ("journey_id", "opened_event_id"),
    "sla_clock": ("journey_id", "policy_id", "started_event_id"),
    "sla_warning": ("journey_id", "policy_id", "started_event_id", "share"),
    "opportunity": ("journey_id", "opportunity_id"),
    "credit": ("journey_id", "opportunity_id", "touch_event_id", "model", "kind", "event_id"),
    "fault": ("event_id", "copy_no"),
    **{table.name: ("event_id",) for table in EVENT_TABLES},
}
"""Columns by which a row is the same row in another version."""
UNCOMPARED = {"visit_no", "handoff_no", "clock_no", "message", LABEL}
"""Numbers shift; messages name the definition, the code of a fault says the same."""


class Difference(NamedTuple):
    """A row that one version has and the other has not, or has otherwise."""

    table: str
    key: Key
    before: Values | None
    after: Values | None

    @property
    def kind(self) -> str:
        """added, gone or changed."""
        if self.before is None:
            return "added"
        return "gone" if self.after is None else "changed"

    @property
    def columns(self) -> list[str]:
        """The columns that say something else; none for a row that is added or gone."""
        if self.before is None or self.after is None:
            return []
        return [name for name, value in self.after.items() if self.before[name] != value]


def keyed(rows: Rows) -> Keyed:
    """The rows of one journey by table and key."""
    found: Keyed = {}
    for table in TABLES:
        plain = (dict(zip(table.columns, row, strict=True)) for row in rows.get(table.name, ()))
        for row in SHOWN.get(table.name, _as_it_is)(plain, rows):
            key = tuple(row[name] for name in KEYS[table.name])
            found[table.name, key] = {name: value for name, value in row.items() if name not in UNCOMPARED}
    return found


def differences(before: Keyed, after: Keyed) -> list[Difference]:
    """What differs, in the order of tables and keys."""
    places = [*before, *(place for place in after if place not in before)]
    return [
        Difference(*place, before.get(place), after.get(place))
        for place in places
        if before.get(place) != after.get(place)
    ]


def _as_it_is(rows: Iterator[Values], _: Rows) -> Iterator[Values]:
    return rows


def _by_model(rows: Iterator[Values], _: Rows) -> Iterator[Values]:
    for row in rows:
        lists = [row.pop(name) for name in ("models", "weights", "amounts")]
        for model, weight, amount in zip(*map(_items, lists), strict=True):
            if weight or amount:
                yield row | {"model": model, "weight": weight, "amount_minor": amount}


def _items(value: object) -> Sequence[object]:
    assert isinstance(value, list | tuple)
    return value


def _with_clock(rows: Iterator[Values], all_rows: Rows) -> Iterator[Values]:
    """Warnings name their clock by its number, which shifts."""
    [clock] = (table for table in TABLES if table.name == "sla_clock")
    clocks = (dict(zip(clock.columns, row, strict=True)) for row in all_rows.get("sla_clock", ()))
    started = {(each["policy_id"], each["clock_no"]): each["started_event_id"] for each in clocks}
    for row in rows:
        yield row | {"started_event_id": started[row["policy_id"], row["clock_no"]]}


SHOWN: Mapping[str, Callable[[Iterator[Values], Rows], Iterator[Values]]] = {
    "credit": _by_model,
    "sla_warning": _with_clock,
}
"""Tables whose rows are compared otherwise than they are stored."""
