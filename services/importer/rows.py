"""One run over the files of a mapping: the events of their rows, chunk by chunk, and the bad rows.

Promises: every row is counted, as events, as bad, or as one that the mapping makes nothing of; a bad row is
told with file, line and cells, and the other rows go on. Leaves the events of a row to `events` and sending
to `services.publisher`.
"""

import csv
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from projections.yaml_tree import Fault as MappingFault
from projections.yaml_tree import one_of
from schemas.records import Record
from services import settings
from services.importer.events import RowFault, Translator, fault_of
from services.importer.mapping import Input, Join, Mapping, MappingFaults, Rows
from services.importer.tables import Joined, Line, Lookup, Table, picker
from services.publisher import Chunk

BEGINNINGS = (
    (b"\x1f\x8b", "is compressed: unpack it with `gunzip`"),
    (b"PK\x03\x04", "is a ZIP archive or a spreadsheet: unpack it, or save it as CSV"),
    (b"\xff\xfe", "is UTF-16: save it as UTF-8, or set `encoding: utf-16` of its input"),
    (b"\xfe\xff", "is UTF-16: save it as UTF-8, or set `encoding: utf-16` of its input"),
)
"""How files begin that are no CSV as the mapping has it, and what to do."""
PACKED = (".gz", ".zip", ".xz", ".zst", ".bz2")
DELIMITERS = (",", ";", "\t", "|")
CHUNK_RECORDS = settings.PUBLISH_CHUNK_RECORDS


class WrongFiles(ValueError):
    """The files given are not those of the mapping."""


class BadRow(Struct, frozen=True):
    """A row that is not taken, and why."""

    file: str
    line: int
    cells: dict[str, str]
    """Column to cell, as in the file; `?` and a number names what has no column."""
    faults: tuple[RowFault, ...]


class Counts(Struct):
    """What became of the rows of one file."""

    rows: int = 0
    bad: int = 0
    without_event: int = 0
    """Rows that the mapping makes nothing of."""


class Progress(NamedTuple):
    """What one chunk of rows means once it is acknowledged."""

    done_bytes: int
    events: int
    bad_rows: int
    bad: list[BadRow]


def assign(mapping: Mapping, files: Sequence[Path]) -> tuple[dict[str, Path], list[Path]]:
    """Input name to file, and the files that no input asks for. Raises WrongFiles."""
    found: dict[str, Path] = {}
    unused = list(files)
    for each in mapping.inputs.values():
        matching = [file for file in files if any(fnmatch(file.name, like) for like in each.patterns)]
        if not matching and each.is_optional:
            continue
        if len(matching) != 1:
            found_are = ", ".join(map(str, matching)) or "none"
            packed = [f"; {file} is packed: unpack it first" for file in files if file.suffix in PACKED]
            raise WrongFiles(
                f"input {each.name!r} of mapping {mapping.name!r} wants one file named like "
                f"{' or '.join(each.patterns)}; of those given, these are: {found_are}{''.join(packed)}"
            )
        found[each.name] = matching[0]
        unused = [file for file in unused if file != matching[0]]
    return found, unused


class Import:
    """One run over the files of a mapping."""

    def __init__(self, mapping: Mapping, files: dict[str, Path]) -> None:
        """Opens nothing but the headers.

        Raises WrongFiles for what is no such CSV, MappingFaults when columns are missing, OSError.
        """
        self.mapping, self.files = mapping, files
        self.sections = [rows for rows in mapping.rows if rows.input in files]
        self.headers = {name: self._header(name) for name in files}
        faults = [fault for rows in self.sections for fault in self._wrong_columns(rows)]
        if faults:
            raise MappingFaults(sorted(set(faults)))
        self.total_bytes = sum(files[rows.input].stat().st_size for rows in self.sections)
        self.counts: dict[str, Counts] = {}
        """File name to what became of its rows, so far."""
        self.records: Counter[str] = Counter()
        """Record name to how many events were made, so far."""
        self._bad: list[BadRow] = []

    async def chunks(self) -> AsyncIterator[Chunk[Progress]]:
        """The events of all rows, some at a time."""
        for name in self._only_joined():
            with self._open(name) as table:
                for _ in self._bad_lines(table):
                    yield self._chunk([], 0)
        read_before = 0
        for rows in self.sections:
            with ExitStack() as stack:
                lookup = stack.enter_context(Lookup())
                joined = [self._load(lookup, rows, join) for join in rows.joins]
                table = stack.enter_context(self._open(rows.input))
                for records in self._chunked(rows, joined, table):
                    yield self._chunk(records, read_before + table.done_bytes)
                read_before += table.done_bytes

    def _chunked(self, rows: Rows, joined: Sequence[Joined], table: Table) -> Iterator[list[Record]]:
        """The events of a table's rows."""
        own = [column for column in _named(rows) if column in table.header]
        pick, translate = picker(table.header, own), Translator(rows, joined).translate
        counts = self._counts(table)
        chunk: list[Record] = []
        for line in table.lines():
            counts.rows += 1
            records, faults = translate(pick(line.cells)) if line.bad is None else ([], [fault_of(line.bad)])
            if faults:
                self._refuse(table, line, faults)
            elif not records:
                counts.without_event += 1
            chunk += records
            if len(chunk) >= CHUNK_RECORDS or counts.rows % CHUNK_RECORDS == 0:
                yield chunk
                chunk = []
        yield chunk

    def _chunk(self, records: list[Record], done_bytes: int) -> Chunk[Progress]:
        self.records.update(type(record).__name__ for record in records)
        bad, self._bad = self._bad, []
        bad_rows = sum(counts.bad for counts in self.counts.values())
        return Chunk(records, Progress(done_bytes, self.records.total(), bad_rows, bad))

    def _load(self, lookup: Lookup, rows: Rows, join: Join) -> Joined:
        """What a join needs of its file; of one that is not there, nothing."""
        prefix = f"{join.input}."
        columns = [name.removeprefix(prefix) for name in _named(rows) if name.startswith(prefix)]
        if join.input not in self.files:
            return lookup.load(join, columns, columns, ())
        with self._open(join.input) as table:
            good = (line.cells for line in table.lines() if line.bad is None)
            return lookup.load(join, table.header, columns, good)

    def _only_joined(self) -> list[str]:
        """Inputs whose bad rows no section of their own would tell."""
        own = {rows.input for rows in self.sections}
        joined = (join.input for rows in self.sections for join in rows.joins)
        return [name for name in dict.fromkeys(joined) if name in self.files and name not in own]

    def _bad_lines(self, table: Table) -> Iterator[None]:
        """Tells the bad rows of a file; comes up now and then, and at the end."""
        for line in table.lines():
            if line.bad is not None:
                self._refuse(table, line, [fault_of(line.bad)])
                if len(self._bad) >= CHUNK_RECORDS:
                    yield
        yield

    def _refuse(self, table: Table, line: Line, faults: list[RowFault]) -> None:
        self._counts(table).bad += 1
        more = [f"?{number}" for number in range(len(table.header) + 1, len(line.cells) + 1)]
        cells = dict(zip(map(_legible, [*table.header, *more]), map(_legible, line.cells), strict=False))
        self._bad.append(BadRow(table.file.name, line.number, cells, tuple(faults)))

    def _counts(self, table: Table) -> Counts:
        return self.counts.setdefault(table.file.name, Counts())

    def _open(self, name: str) -> Table:
        return Table(self.files[name], self.mapping.inputs[name])

    def _header(self, name: str) -> list[str]:
        _check_beginning(self.files[name], self.mapping.inputs[name])
        try:
            table = self._open(name)
        except csv.Error as error:
            raise WrongFiles(f"{self.files[name]} has a first line that is no CSV: {error}") from error
        with table:
            _check_header(table, self.mapping.inputs[name])
            return table.header

    def _wrong_columns(self, rows: Rows) -> Iterator[MappingFault]:
        """Columns that are named and not there, or there twice."""
        absent = tuple(f"{join.input}." for join in rows.joins if join.input not in self.files)
        joined = [
            f"{join.input}.{column}" for join in rows.joins for column in self.headers.get(join.input, ())
        ]
        known = Counter([*self.headers[rows.input], *joined])
        for node, column in rows.used:
            if known[column] > 1:
                yield MappingFault(node.line, node.path, column, "a column that its file has once")
            elif not known[column] and not column.startswith(absent):
                yield MappingFault(node.line, node.path, column, f"a column: {one_of(known, column)}")


def _check_beginning(file: Path, how: Input) -> None:
    with file.open("rb") as opened:
        beginning = opened.read(max(len(sign) for sign, _ in BEGINNINGS))
    meant = next((meant for sign, meant in BEGINNINGS if beginning.startswith(sign)), None)
    if meant and not how.encoding.lower().startswith("utf-16"):
        raise WrongFiles(f"{file} {meant}")


def _check_header(table: Table, how: Input) -> None:
    if not any(table.header):
        raise WrongFiles(f"{table.file} is empty: its first line has to name the columns")
    others = [each for each in DELIMITERS if each in table.header[0] and each != how.delimiter]
    if len(table.header) == 1 and others:
        raise WrongFiles(
            f"{table.file} has one column, {table.header[0]!r:.100}, for want of {how.delimiter!r}: "
            f"set `delimiter: {json.dumps(others[0])}` of input {how.name!r}"
        )


def _legible(text: str) -> str:
    """Bytes of a wrong encoding are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _named(rows: Rows) -> list[str]:
    """Every column that the mapping names for these rows, once."""
    return list(dict.fromkeys(column for _, column in rows.used))
