"""The events of one row, or everything that is wrong with it.

Promises: a row becomes all of its events or, if one of them has a fault, none. What is wrong with its cells
is told all at once; if nothing is, what is wrong with its events. An event is recorded when it occurred,
unless the mapping says when, so the same row gives the same events whenever it is imported. Leaves reading
files to `tables`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from schemas.contract import record_of
from schemas.faults import Refused, shown
from schemas.records import Record
from services.importer.mapping import PART, Event, Join, Rows
from services.importer.tables import Lookup
from services.importer.values import ABSENT, Bad, Row


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

    def __init__(self, rows: Rows, lookup: Lookup) -> None:
        self.rows, self.lookup = rows, lookup

    def translate(self, row: Row) -> tuple[list[Record], list[RowFault]]:
        """The events of a row, or its faults."""
        faults: list[RowFault] = []
        records: list[Record] = []
        for whole in self._joined(row, faults) if self.rows.joins else (row,):
            for event in self.rows.events:
                for part in _parts(event, whole) if event.parts else (whole,):
                    if event.when(part):
                        records += _record(event, part, faults)
        return ([] if faults else records), faults

    def _joined(self, row: Row, faults: list[RowFault]) -> list[Row]:
        """The row, once for each combination of rows joined to it."""
        wholes = [row]
        for number, join in enumerate(self.rows.joins):
            wholes = [whole | cells for whole in wholes for cells in self._found(number, join, whole, faults)]
        return wholes

    def _found(self, number: int, join: Join, row: Row, faults: list[RowFault]) -> list[Row]:
        key = tuple([row[column] for column in join.on])
        found = self.lookup.find(number, key)
        if not found and join.required:
            expected = f"a row of {join.input} with it as {', '.join(join.columns)}"
            faults.append(fault_of(Bad("no_match", ", ".join(key), expected), join.on))
            return []
        return found or [self.lookup.nothing(number)]


def _parts(event: Event, row: Row) -> Iterable[Row]:
    return [row | {PART: part} for part in event.parts(row)] if event.parts else (row,)


def _record(event: Event, row: Row, faults: list[RowFault]) -> list[Record]:
    body: dict[str, Any] = event.constants.copy()
    good = len(faults)
    for name, make, columns in event.fields:
        try:
            value = make(row)
        except Bad as bad:
            faults.append(fault_of(bad, columns, event.record, f"/{name}"))
        else:
            if value is not ABSENT:
                body[name] = value
    if len(faults) > good:
        return []
    if "occurred_at" in body:
        body.setdefault("recorded_at", body["occurred_at"])
    try:
        return [record_of(event.record, body)]
    except Refused as refused:
        faults += _refused(event, refused)
        return []


def _refused(event: Event, refused: Refused) -> Iterator[RowFault]:
    columns = {each.name: each.columns for each in event.fields}
    for fault in refused.faults:
        name = fault.path.split("/")[1] if fault.path else ""
        bad = Bad(fault.code, fault.value, fault.expected, fault.hint)
        yield fault_of(bad, columns.get(name, ()), event.record, fault.path)


def fault_of(bad: Bad, columns: tuple[str, ...] = (), record: str | None = None, path: str = "") -> RowFault:
    """A fault of a row; without a record one of the row itself."""
    return RowFault(columns, record, bad.code, path, shown(bad.value), bad.expected, bad.hint)
