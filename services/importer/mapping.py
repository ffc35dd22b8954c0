"""The mapping file: which file's rows become which events.

Promises: `parse` gives a mapping that fits the contract's records, or every fault of the file at once, each
with its line. What needs the CSV files to see (missing columns) is checked by `rows` before the first row.
Leaves what a field is made of to `fields`.
"""

import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

from msgspec import inspect

from projections.yaml_tree import Fault, Node, Reading, one_of, read
from schemas.contract import record_of
from schemas.faults import FIELDS, Refused
from schemas.records import RECORDS, Envelope
from services.importer.fields import Fields
from services.importer.values import ABSENT, Maker, Row, is_true, parts_of

DEFAULTED = ("recorded_at", "source", "actor")
CLAUSES = ("record", "when", "each", "retract")
"""Keys of an event that are no fields of it."""
PART = "each"
"""The column that holds one part of a cell which stands for several events."""
RETRACTED = "retracted_in_source"
"""The reason code of events that take others back because their row is deleted."""

Test = Callable[[Row], bool]


class MappingFaults(ValueError):
    """Everything that is wrong with a mapping file."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Input:
    """A CSV file: how its name may look, and how it is written."""

    name: str
    patterns: tuple[str, ...]
    delimiter: str
    encoding: str
    is_optional: bool


class Join(NamedTuple):
    """Rows of another input that belong to a row: their `columns` hold what the row has in `on`."""

    input: str
    columns: tuple[str, ...]
    on: tuple[str, ...]
    required: bool


class FieldMaker(NamedTuple):
    """How a field is made, and from which columns."""

    name: str
    make: Maker
    columns: tuple[str, ...]


class Made(NamedTuple):
    """What an event is made of."""

    record: str
    constants: dict[str, Any]
    """Fields that are the same for every row."""
    fields: tuple[FieldMaker, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One event that a row may become, or one for each part of a cell."""

    when: Test
    parts: Callable[[Row], list[str]] | None
    """For one event for each part of a cell: the parts."""
    made: Made
    is_gone: Test
    """Whether the row takes the event back."""
    retraction: Made


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of one input become."""

    input: str
    joins: tuple[Join, ...]
    events: tuple[Event, ...]
    used: tuple[tuple[Node, str], ...]
    """Every column that is named, and where."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A whole mapping file."""

    name: str
    folder: str | None
    """Where in the data folder its files are, when none are given."""
    inputs: dict[str, Input]
    rows: tuple[Rows, ...]


def parse(text: str) -> Mapping:
    """The mapping of a YAML text. Raises MappingFaults."""
    reading = Reading()
    tree = read(text, reading)
    mapping = _Parser(reading).mapping(tree) if tree is not None else None
    if reading.faults or mapping is None:
        raise MappingFaults(sorted(reading.faults))
    return mapping


class _Parser:
    """Reads the tree; holds what lower parts need of upper ones."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.fields = Fields(reading)
        self.source = ""

    def mapping(self, tree: Node) -> Mapping:
        given = self.reading.fields(tree, ("mapping", "source", "zone", "inputs", "rows"), ("folder",))
        self.source = self.reading.name(given.get("source"))
        self.fields.zone = self.fields.zone_of(given.get("zone"))
        inputs = {
            name: self._input(name, node) for name, node in self.reading.mapping(given.get("inputs")).items()
        }
        rows = tuple(self._rows(node, inputs) for node in self.reading.some(given.get("rows")))
        folder = self.reading.name(given["folder"]) if "folder" in given else None
        return Mapping(self.reading.name(given.get("mapping")), folder, inputs, rows)

    def _input(self, name: str, node: Node) -> Input:
        given = self.reading.fields(node, ("file",), ("delimiter", "encoding", "optional"))
        delimiter = self.reading.text(given["delimiter"]) if "delimiter" in given else ","
        encoding = self.reading.text(given["encoding"]) if "encoding" in given else "utf-8-sig"
        if len(delimiter) != 1:
            self.reading.fault(given["delimiter"], "one character")
        try:
            "".encode(encoding)
        except LookupError:
            self.reading.fault(given["encoding"], "an encoding such as utf-8 or cp1252")
        is_optional = "optional" in given and self.reading.boolean(given["optional"])
        patterns = tuple(self.reading.name(each) for each in self.reading.one_or_more(given.get("file")))
        return Input(name, patterns, delimiter, encoding, is_optional)

    def _rows(self, node: Node, inputs: dict[str, Input]) -> Rows:
        self.fields.used = []
        given = self.reading.fields(node, ("from", "events"), ("join",))
        name = self.reading.choice(given.get("from"), list(inputs))
        joins = tuple(
            self._join(each, inputs) for each in (self.reading.some(given["join"]) if "join" in given else ())
        )
        events = tuple(self._event(each) for each in self.reading.some(given.get("events")))
        used = tuple((place, column) for place, column in self.fields.used if column != PART)
        return Rows(name, joins, events, used)

    def _join(self, node: Node, inputs: dict[str, Input]) -> Join:
        given = self.reading.fields(node, ("input", "on"), ("required",))
        name = self.reading.choice(given.get("input"), list(inputs))
        pairs = self.reading.mapping(given.get("on"))
        for column, value in pairs.items():
            self.fields.used.append((value, f"{name}.{column}"))
        on = tuple(self.fields.column(value) for value in pairs.values())
        required = "required" in given and self.reading.boolean(given["required"])
        return Join(name, tuple(pairs), on, required)

    def _event(self, node: Node) -> Event:
        before, faults = len(self.fields.used), len(self.reading.faults)
        given = dict(self.reading.mapping(node))
        clauses = {name: given.pop(name) for name in CLAUSES if name in given}
        record = self.reading.choice(clauses.get("record", node), list(RECORDS))
        fields = self._fields(record, given)
        for each in FIELDS.get(record, ()):
            if each.required and each.name not in given and each.name not in DEFAULTED:
                self.reading.fault(node, f"a value for `{each.name}`, {record} needs it", "nothing")
        fields = [*self._defaults(given), *fields]
        parts = self._each(clauses["each"]) if "each" in clauses else None
        if parts is None:
            self._no_part(before)
        else:
            self._ids_of_parts(given, fields)
        made = _made(record, fields)
        if len(self.reading.faults) == faults:
            self._constants(node, given, made)
        when = self._when(clauses["when"]) if "when" in clauses else _always
        is_gone = self._when(clauses["retract"]) if "retract" in clauses else _never
        return Event(when, parts, made, is_gone, _retraction(fields))

    def _fields(self, record: str, given: dict[str, Node]) -> list[FieldMaker]:
        known = {each.name: each for each in FIELDS.get(record, ())}
        fields: list[FieldMaker] = []
        for name, value in given.items():
            if record and name not in known:
                self.reading.fault(value, f"a field of {record}: {one_of(list(known), name)}", name)
            elif record:
                fields.append(self._field(name, value, known[name].type))
        return fields

    def _field(self, name: str, node: Node, kind: inspect.Type) -> FieldMaker:
        before = len(self.fields.used)
        make = self.fields.value(node, kind)
        columns = tuple(column for _, column in self.fields.used[before:])
        if name == "event_id" and not columns:
            self.reading.fault(node, "an id with a column in it, such as crm:{id}: each row is another event")
        return FieldMaker(name, make, columns)

    def _defaults(self, given: Container[str]) -> list[FieldMaker]:
        """Fields that every event has: from the mapping's source, by an import."""
        source = self.source
        defaults = [
            FieldMaker("source", lambda row: source, ()),
            FieldMaker("actor", lambda row: {"kind": "import"}, ()),
        ]
        return [each for each in defaults if each.name not in given]

    def _no_part(self, before: int) -> None:
        for place, column in self.fields.used[before:]:
            if column == PART:
                self.reading.fault(place, "a column; {each} stands for a part of the cell that `each` names")

    def _ids_of_parts(self, given: dict[str, Node], fields: Iterable[FieldMaker]) -> None:
        if any(each.name == "event_id" and PART not in each.columns for each in fields):
            self.reading.fault(given["event_id"], "an id with {each} in it: each part is another event")

    def _constants(self, node: Node, given: dict[str, Node], made: Made) -> None:
        """Reports what the mapping itself says against a rule of the contract: every row would be bad."""
        from_columns = {each.name for each in made.fields}
        try:
            record_of(made.record, made.constants, time.time_ns() // 1000)
        except Refused as refused:
            for fault in refused.faults:
                name = fault.path.partition("/")[2].partition("/")[0]
                if fault.code != "missing_field" and name not in from_columns:
                    expected = f"{fault.expected}; {fault.hint}" if fault.hint else fault.expected
                    self.reading.fault(given.get(name, node), expected, None if name in given else name)

    def _each(self, node: Node) -> Callable[[Row], list[str]]:
        """The parts of a cell, each of which is an event."""
        given = self.reading.fields(node, ("column", "split"))
        separator = self.reading.text(given.get("split")) or ";"
        column = self.fields.column(given.get("column"))
        return lambda row: parts_of(row[column], separator)

    def _when(self, node: Node) -> Test:
        """All conditions of a mapping hold; of a list of mappings, those of one."""
        if isinstance(node.value, list):
            tests = [self._all(each) for each in self.reading.some(node)]
            return reduce(_either, tests) if tests else _always
        return self._all(node)

    def _all(self, node: Node) -> Test:
        tests = [self._test(column, each) for column, each in self.reading.mapping(node).items()]
        return reduce(_both, tests) if tests else _always

    def _test(self, column: str, node: Node) -> Test:
        self.fields.used.append((node, column))
        if not isinstance(node.value, dict):
            wanted = self._texts(node)
            return lambda row: row[column] in wanted
        given = self.reading.fields(node, (), ("is", "present", "not"))
        if "is" in given:
            is_wanted = self.reading.boolean(given["is"])
            return lambda row: is_true(row[column], column) is is_wanted
        if "present" in given:
            is_present = self.reading.boolean(given["present"])
            return lambda row: bool(row[column]) is is_present
        unwanted = self._texts(given.get("not"))
        return lambda row: row[column] not in unwanted

    def _texts(self, node: Node | None) -> frozenset[str]:
        return frozenset(self.reading.text(each) for each in self.reading.one_or_more(node))


def _always(row: Row) -> bool:
    return True


def _never(row: Row) -> bool:
    return False


def _both(first: Test, second: Test) -> Test:
    return lambda row: first(row) and second(row)


def _either(first: Test, second: Test) -> Test:
    return lambda row: first(row) or second(row)


def _made(record: str, fields: Iterable[FieldMaker]) -> Made:
    same = [(each, each.make({})) for each in fields if not each.columns]
    constants = {each.name: value for each, value in same if value is not ABSENT}
    return Made(record, constants, tuple(each for each in fields if each.columns))


def _retraction(fields: Iterable[FieldMaker]) -> Made:
    """What takes back the event of these fields: its envelope, under an id of its own."""
    kept = {each.name: each for each in fields if each.name in Envelope.__struct_fields__}
    if "event_id" in kept:  # else a fault of the mapping, and told already
        _, make, columns = kept["event_id"]
        kept["event_id"] = FieldMaker("event_id", lambda row: _suffixed(make(row), ":retracted"), columns)
        kept["target_event_id"] = FieldMaker("target_event_id", make, columns)
    kept["reason_code"] = FieldMaker("reason_code", lambda row: RETRACTED, ())
    return _made("EventRetracted", kept.values())


def _suffixed(text: Any, suffix: str) -> Any:
    return text if text is ABSENT else f"{text}{suffix}"
