"""The events of each row of the files of a mapping, and everything that is wrong with a row.

Promises: a row becomes all of its events or, if one of them has a fault, none; the faults of a row are all
told, with file, line and columns, and the other rows go on. An event is recorded when it occurred, unless the
mapping says when; so the same row gives the same events whenever it is imported.
"""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from projections.yaml_tree import Fault as MappingFault
from projections.yaml_tree import one_of
from schemas.contract import parse
from schemas.faults import Refused
from schemas.records import Record
from services import settings
from services.importer.mapping import Event, Join, Mapping, MappingFaults, Rows
from services.importer.tables import Lookup, Place, Table
from services.importer.values import ABSENT, Bad, Row
from services.publisher import Chunk


class WrongFiles(ValueError):
    """The files given are not those of the mapping."""


class RowFault(Struct, frozen=True, kw_only=True):
    """One thing wrong with one row."""

    file: str
    line: int
    columns: tuple[str, ...]
    record: str | None
    code: str
    path: str
    value: str | int | float | bool | None
    expected: str
    hint: str | None = None


class Progress(NamedTuple):
    """What one chunk of rows means once it is acknowledged."""

    done_bytes: int
    rows: int
    bad_rows: int
    events: int
    faults: list[RowFault]


def assign(mapping: Mapping, files: Sequence[Path]) -> tuple[dict[str, Path], list[Path]]:
    """Input name to file, and the files that no input asks for. Raises WrongFiles."""
    found: dict[str, Path] = {}
    unused = list(files)
    for each in mapping.inputs.values():
        matching = [file for file in files if fnmatch(file.name, each.pattern)]
        if len(matching) != 1:
            found_are = ", ".join(map(str, matching)) or "none"
            raise WrongFiles(
                f"input {each.name!r} of mapping {mapping.name!r} wants one file named like "
                f"{each.pattern!r}; of those given, these are: {found_are}"
            )
        found[each.name] = matching[0]
        unused = [file for file in unused if file != matching[0]]
    return found, unused


class Import:
    """One run over the files of a mapping."""

    def __init__(self, mapping: Mapping, files: dict[str, Path]) -> None:
        """Opens nothing but the headers. Raises MappingFaults when columns are missing, OSError."""
        self.mapping, self.files = mapping, files
        self.headers = {name: self._header(name) for name in mapping.inputs}
        faults = [fault for rows in mapping.rows for fault in self._missing_columns(rows)]
        if faults:
            raise MappingFaults(sorted(set(faults)))
        self.total_bytes = sum(files[rows.input].stat().st_size for rows in mapping.rows)
        self._faults: list[RowFault] = []
        self._rows = self._bad_rows = self._events = 0

    async def chunks(self) -> AsyncIterator[Chunk[Progress]]:
        """The events of all rows, some at a time."""
        read_before = 0
        for rows in self.mapping.rows:
            with ExitStack() as stack:
                lookup = stack.enter_context(Lookup())
                for number, join in enumerate(rows.joins):
                    with self._open(join.input) as joined:
                        lookup.load(number, joined, join.columns, self._refuse)
                table = stack.enter_context(self._open(rows.input))
                records: list[Record] = []
                for line, cells in table.rows():
                    self._rows += 1
                    records += self._made(rows, lookup, Place(table.file, line), cells)
                    if len(records) + len(self._faults) >= settings.PUBLISH_CHUNK_RECORDS:
                        yield self._chunk(records, read_before + table.done_bytes)
                        records = []
                read_before += table.done_bytes
                yield self._chunk(records, read_before)

    def _chunk(self, records: list[Record], done_bytes: int) -> Chunk[Progress]:
        self._events += len(records)
        faults, self._faults = self._faults, []
        return Chunk(records, Progress(done_bytes, self._rows, self._bad_rows, self._events, faults))

    def _made(self, rows: Rows, lookup: Lookup, place: Place, cells: list[str] | Bad) -> list[Record]:
        """The records of a row and of the rows joined to it; none if anything is wrong with one."""
        if isinstance(cells, Bad):
            self._refuse(place, cells)
            return []
        before = len(self._faults)
        own = dict(zip(self.headers[rows.input], cells, strict=True))
        records: list[Record] = []
        for row in self._joined(rows.joins, 0, lookup, place, own):
            for event in rows.events:
                if event.when(row):
                    records += self._record(event, row, place)
        if len(self._faults) > before:
            self._bad_rows += 1
            return []
        return records

    def _joined(
        self, joins: tuple[Join, ...], number: int, lookup: Lookup, place: Place, row: dict[str, str]
    ) -> Iterator[Row]:
        """The row, once for each combination of rows joined to it; without any, with empty cells for them."""
        if number == len(joins):
            yield row
            return
        join = joins[number]
        key = [value(row) for value in join.values]
        found = lookup.find(number, key)
        names = [f"{join.input}.{name}" for name in self.headers[join.input]]
        if not found and join.required:
            expected = f"a row of {join.input} with {', '.join(join.columns)} = {', '.join(key)}"
            self._report(place, Bad("no_match", ", ".join(key), expected), join.columns)
            return
        for cells in found or [[""] * len(names)]:
            more = row | dict(zip(names, cells, strict=True))
            yield from self._joined(joins, number + 1, lookup, place, more)

    def _record(self, event: Event, row: Row, place: Place) -> list[Record]:
        body: dict[str, Any] = {"record": event.record}
        is_bad = False
        for name, make, columns in event.fields:
            try:
                value = make(row)
            except Bad as bad:
                is_bad = True
                self._report(place, bad, columns, event.record, f"/{name}")
            else:
                if value is not ABSENT:
                    body[name] = value
        if is_bad:
            return []
        body.setdefault("recorded_at", body.get("occurred_at"))
        try:
            return [parse(body, now=time.time_ns() // 1000, may_import=True)]
        except Refused as refused:
            self._report_refused(place, event, refused)
            return []

    def _report_refused(self, place: Place, event: Event, refused: Refused) -> None:
        columns = {each.name: each.columns for each in event.fields}
        for fault in refused.faults:
            name = fault.path.split("/")[1] if fault.path else ""
            bad = Bad(fault.code, fault.value, fault.expected, fault.hint)
            self._report(place, bad, columns.get(name, ()), event.record, fault.path)

    def _refuse(self, place: Place, bad: Bad) -> None:
        """A row that could not even be read."""
        self._bad_rows += 1
        self._report(place, bad)

    def _report(
        self,
        place: Place,
        bad: Bad,
        columns: tuple[str, ...] = (),
        record: str | None = None,
        path: str = "",
    ) -> None:
        fault = RowFault(
            file=place.file.name,
            line=place.line,
            columns=columns,
            record=record,
            code=bad.code,
            path=path,
            value=bad.value,
            expected=bad.expected,
            hint=bad.hint,
        )
        self._faults.append(fault)

    def _open(self, name: str) -> Table:
        return Table(self.files[name], self.mapping.inputs[name])

    def _header(self, name: str) -> list[str]:
        with self._open(name) as table:
            return table.header

    def _missing_columns(self, rows: Rows) -> Iterator[MappingFault]:
        joined = [f"{join.input}.{column}" for join in rows.joins for column in self.headers[join.input]]
        known = [*self.headers[rows.input], *joined]
        for node, column in rows.used:
            if column not in known:
                yield MappingFault(node.line, node.path, column, f"a column: {one_of(known, column)}")
