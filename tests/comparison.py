"""Rows of `projections` beside rows of something else, and what differs, in words.

Promises: `projected` goes through the public entry of `projections` alone; `differences` names table, key and
column of everything that is not equal. Fault messages are not compared. Floats are equal within 1e-9.
"""

import math
from collections.abc import Iterable
from typing import Any

from projections import definition, identity, journey
from projections.rules import Entry, Rules
from schemas import records as r
from tests import oracle

Row = dict[str, Any]
Tables = dict[str, list[Row]]
KEYS = {table.name: table.key for table in journey.TABLES}
UNCOMPARED = {"message"}


def rules_of(records: Iterable[r.Record], timeline: oracle.Timeline) -> Rules:
    """The rules of a timeline with the calendar facts that count among the records."""
    entries = tuple(Entry(start, definition.parse(text)) for start, text in timeline)
    return Rules(entries, oracle.calendar_facts(oracle.resolve(records)))


def named(rows: dict[str, list[tuple[object, ...]]]) -> Tables:
    """Rows as column to value."""
    columns = {table.name: table.columns for table in journey.TABLES}
    return {table: [dict(zip(columns[table], row, strict=True)) for row in rows[table]] for table in rows}


def projected(records: list[r.Record], timeline: oracle.Timeline) -> Tables:
    """The rows of every journey of a log, as `projections` computes them."""
    rules = rules_of(records, timeline)
    result: Tables = {}
    for history in identity.journeys(records).values():
        for table, rows in named(journey.project(history, rules)).items():
            result.setdefault(table, []).extend(rows)
    return result


def is_same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return type(a) is type(b) and bool(a == b)


def by_key(table: str, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    keyed = {tuple(row[column] for column in KEYS[table]): row for row in rows}
    assert len(keyed) == len(rows), f"{table}: two rows of one key"
    return keyed


def row_differences(wanted: Row, got: Row) -> list[str]:
    names = sorted((set(wanted) | set(got)) - UNCOMPARED)
    return [
        f"{name}: expected {wanted.get(name, 'no column')!r}, got {got.get(name, 'no column')!r}"
        for name in names
        if not is_same(wanted.get(name, "no column"), got.get(name, "no column"))
    ]


def differences(wanted: Tables, got: Tables) -> list[str]:
    """One line per row or value that is not equal."""
    lines = []
    for table in KEYS:
        left, right = by_key(table, wanted.get(table, [])), by_key(table, got.get(table, []))
        lines += [f"{table} {key}: expected, missing" for key in sorted(left.keys() - right.keys(), key=repr)]
        lines += [f"{table} {key}: not expected" for key in sorted(right.keys() - left.keys(), key=repr)]
        for key in sorted(left.keys() & right.keys(), key=repr):
            lines += [f"{table} {key} {line}" for line in row_differences(left[key], right[key])]
    return lines
