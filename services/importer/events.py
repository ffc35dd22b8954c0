"""The events of one row, or everything that is wrong with it.

Promises: a row becomes all of its events or, if one of them has a fault, none. What is wrong with its cells
is told all at once; if nothing is, what is wrong with its events. An event is recorded when it occurred,
unless the mapping says when, so the same row gives the same events whenever it is imported. Leaves reading
files to `tables`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from schemas.contract import record_of
from schemas.faults import Refused, shown
from schemas.records import Record
from services.importer.mapping import PART, Event, Join, Made, Rows
from services.importer.tables import Joined
from services.importer.values import ABSENT, OTHER_ENCODING, Bad, Row


class RowFault(Struct, frozen=True):
    """One thing wrong with one row."""

    columns: tuple[str, ...]
    record: str | None
    code: str
    path: str
    value: str | int | float | bool | None
    expected: str
    hint: str | None = None


class Translator:
    """Makes the events of the rows of one input."""

    def __init__(self, rows: Rows, joined: Sequence[Joined]) -> None:
        """`joined` is for the joins of the rows, one by one."""
        self.events = rows.events
        self.joins = list(zip(rows.joins, joined, strict=True))

    def translate(self, row: Row) -> tuple[list[Record], list[RowFault]]:
        """The events of a row, or its faults."""
        faults: list[RowFault] = []
        records: list[Record] = []
        for whole in self._wholes(row, faults) if self.joins else (row,):
            for event in self.events:
                for part in _parts(event, whole) if event.parts else (whole,):
                    records += _event(event, part, faults)
        return ([] if faults else records), faults

    def _wholes(self, row: Row, faults: list[RowFault]) -> list[Row]:
        """The row, once for each combination of rows joined to it."""
        wholes = [row]
        for join, joined in self.joins:
            wholes = [whole | cells for whole in wholes for cells in _found(join, joined, whole, faults)]
        return wholes


def _found(join: Join, joined: Joined, row: Row, faults: list[RowFault]) -> Sequence[Row]:
    key = tuple([row[column] for column in join.on])
    found = joined.find(key) if all(key) else ()
    if not found and join.required:
        expected = f"a row of {join.input} with it as {', '.join(join.columns)}"
        faults.append(fault_of(Bad("no_match", ", ".join(key), expected), join.on))
        return ()
    return found or (joined.nothing,)


def _parts(event: Event, row: Row) -> Iterable[Row]:
    return [row | {PART: part} for part in event.parts(row)] if event.parts else (row,)


def _event(event: Event, row: Row, faults: list[RowFault]) -> list[Record]:
    try:
        if not event.when(row):
            return []
        made = event.retraction if event.is_gone(row) else event.made
    except Bad as bad:
        fault = fault_of(bad)  # of the row: every event with this condition has it
        faults += [fault] if fault not in faults else []
        return []
    return _record(made, row, faults)


def _record(made: Made, row: Row, faults: list[RowFault]) -> list[Record]:
    values = made.constants.copy()
    good = len(faults)
    for name, make, columns in made.fields:
        try:
            value = make(row)
        except Bad as bad:
            faults.append(fault_of(bad, columns, made.record, f"/{name}"))
        else:
            if value is not ABSENT:
                values[name] = value
    if len(faults) > good:
        return []
    if "occurred_at" in values:
        values.setdefault("recorded_at", values["occurred_at"])
    try:
        return [record_of(made.record, values, time.time_ns() // 1000)]
    except Refused as refused:
        faults += _refused(made, refused)
        return []


def _refused(made: Made, refused: Refused) -> Iterator[RowFault]:
    columns = {each.name: each.columns for each in made.fields}
    columns.setdefault("recorded_at", columns.get("occurred_at", ()))  # which it then is
    for fault in refused.faults:
        name = fault.path.split("/")[1] if fault.path else ""
        hint = OTHER_ENCODING if fault.code == "not_storable" else fault.hint
        bad = Bad(fault.code, fault.value, fault.expected, hint)
        yield fault_of(bad, columns.get(name, ()), made.record, fault.path)


def fault_of(bad: Bad, columns: tuple[str, ...] = (), record: str | None = None, path: str = "") -> RowFault:
    """A fault of a row; without a record one of the row itself."""
    return RowFault(columns, record, bad.code, path, shown(bad.value), bad.expected, bad.hint)
