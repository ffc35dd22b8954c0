"""The mapping file: which file's rows become which events.

Promises: `parse` gives a mapping that fits the contract's records, or every fault of the file at once, each
with its line. What needs the CSV files to see (missing columns) is checked by `rows` before the first row.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import inspect

from projections.yaml_tree import Fault, Node, Reading, one_of, read
from schemas.faults import FIELDS
from schemas.records import RECORDS
from schemas.rules import zone_names
from services.importer.values import ABSENT, FILTERS, Bad, Kind, Maker, Options, Row, converter, template

ENVELOPE_NEEDED = ("event_id", "subject_id", "occurred_at")
DEFAULTED = ("recorded_at", "source", "actor")
SOURCES = ("column", "text")
OPTIONS = ("map", "else", "empty", "format", "at", "zone", "minor", "decimal", "split", "type")
NULLABLE = ("empty", "else")
TYPES: dict[str, Kind] = {"text": "text", "number": "number", "integer": "integer", "boolean": "boolean"}


class MappingFaults(ValueError):
    """Everything that is wrong with a mapping file."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Input:
    """A CSV file: how its name looks, and how it is written."""

    name: str
    pattern: str
    delimiter: str
    encoding: str


class Join(NamedTuple):
    """Rows of another input that belong to a row: its `columns` equal what `values` give."""

    input: str
    columns: tuple[str, ...]
    values: tuple[Callable[[Row], str], ...]
    required: bool


class FieldMaker(NamedTuple):
    """How a field is made, and from which columns."""

    name: str
    make: Maker
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One event that a row may become."""

    record: str
    when: Callable[[Row], bool]
    fields: tuple[FieldMaker, ...]


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


@dataclass(slots=True)
class _Parser:
    """Reads the tree; holds what lower parts need of upper ones."""

    reading: Reading
    source: str = ""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    used: list[tuple[Node, str]] = field(default_factory=list)

    def mapping(self, tree: Node) -> Mapping:
        given = self.reading.fields(tree, ("mapping", "source", "zone", "inputs", "rows"), ("folder",))
        self.source = self.reading.name(given.get("source"))
        self.zone = self._zone(given.get("zone"))
        inputs = {
            name: self._input(name, node) for name, node in self.reading.mapping(given.get("inputs")).items()
        }
        rows = tuple(self._rows(node, inputs) for node in self.reading.some(given.get("rows")))
        folder = self.reading.name(given["folder"]) if "folder" in given else None
        return Mapping(self.reading.name(given.get("mapping")), folder, inputs, rows)

    def _zone(self, node: Node | None) -> ZoneInfo:
        name = self.reading.text(node)
        if node is not None and name and name not in zone_names():
            self.reading.fault(node, "an IANA time zone such as UTC or Europe/Berlin")
        return ZoneInfo(name if name in zone_names() else "UTC")

    def _input(self, name: str, node: Node) -> Input:
        given = self.reading.fields(node, ("file",), ("delimiter", "encoding"))
        delimiter = self.reading.text(given["delimiter"]) if "delimiter" in given else ","
        encoding = self.reading.text(given["encoding"]) if "encoding" in given else "utf-8-sig"
        if len(delimiter) != 1:
            self.reading.fault(given["delimiter"], "one character")
        try:
            "".encode(encoding)
        except LookupError:
            self.reading.fault(given["encoding"], "an encoding such as utf-8 or cp1252")
        return Input(name, self.reading.name(given.get("file")), delimiter, encoding)

    def _rows(self, node: Node, inputs: dict[str, Input]) -> Rows:
        self.used = []
        given = self.reading.fields(node, ("from", "events"), ("join",))
        name = self.reading.choice(given.get("from"), list(inputs))
        joins = tuple(
            self._join(each, inputs) for each in (self.reading.some(given["join"]) if "join" in given else ())
        )
        events = tuple(self._event(each) for each in self.reading.some(given.get("events")))
        return Rows(name, joins, events, tuple(self.used))

    def _join(self, node: Node, inputs: dict[str, Input]) -> Join:
        given = self.reading.fields(node, ("input", "on"), ("required",))
        name = self.reading.choice(given.get("input"), list(inputs))
        pairs = self.reading.mapping(given.get("on"))
        for column, value in pairs.items():
            self.used.append((value, f"{name}.{column}"))
        values = tuple(self._column(value) for value in pairs.values())
        required = "required" in given and self.reading.boolean(given["required"])
        return Join(name, tuple(pairs), values, required)

    def _column(self, node: Node) -> Callable[[Row], str]:
        column = self.reading.name(node)
        self.used.append((node, column))
        return lambda row: row[column].strip()

    def _event(self, node: Node) -> Event:
        given = dict(self.reading.mapping(node))
        record = self.reading.choice(given.pop("record", node), list(RECORDS))
        when = self._when(given.pop("when", None))
        known = {each.name: each for each in FIELDS.get(record, ())}
        fields: list[FieldMaker] = []
        for name, value in given.items():
            if record and name not in known:
                self.reading.fault(value, f"a field of {record}: {one_of(list(known), name)}", name)
            elif record:
                fields.append(self._field(name, value, known[name].type))
        for name, each in known.items():
            if each.required and name not in given and name not in DEFAULTED:
                self.reading.fault(node, f"a value for `{name}`, {record} needs it", "nothing")
        return Event(record, when, (*fields, *self._defaults(fields)))

    def _defaults(self, fields: list[FieldMaker]) -> list[FieldMaker]:
        """Fields that every event has: from the mapping's source, by an import."""
        given = [each.name for each in fields]
        source = self.source
        defaults = [
            FieldMaker("source", lambda row: source, ()),
            FieldMaker("actor", lambda row: {"kind": "import"}, ()),
        ]
        return [each for each in defaults if each.name not in given]

    def _field(self, name: str, node: Node, kind: inspect.Type) -> FieldMaker:
        before = len(self.used)
        make = self._value(node, kind)
        return FieldMaker(name, make, tuple(column for _, column in self.used[before:]))

    def _value(self, node: Node, kind: inspect.Type) -> Maker:
        if isinstance(node.value, str):
            return self._from_text(self._template(node), _kind(kind), {})
        if isinstance(node.value, list):
            parts = [self._value(each, _item(kind)) for each in node.value]
            return lambda row: [value for part in parts if (value := part(row)) is not ABSENT] or ABSENT
        if isinstance(node.value, dict):
            is_source = any(name in node.value for name in SOURCES)
            return self._specified(node, kind) if is_source else self._object(node, kind)
        value = node.value if node.value is None or isinstance(node.value, bool | int) else str(node.value)
        return lambda row: value

    def _object(self, node: Node, kind: inspect.Type) -> Maker:
        """A nested record or map; one without any value is left out."""
        known = _members(kind)
        parts: dict[str, Maker] = {}
        for name, value in self.reading.mapping(node).items():
            if known is not None and name not in known:
                self.reading.fault(value, one_of(list(known), name), name)
            else:
                parts[name] = self._value(value, known[name] if known else inspect.StrType())

        def make(row: Row) -> Any:
            made = {name: part(row) for name, part in parts.items()}
            return {name: value for name, value in made.items() if value is not ABSENT} or ABSENT

        return make

    def _specified(self, node: Node, kind: inspect.Type) -> Maker:
        given = self.reading.fields(node, (), (*SOURCES, *OPTIONS))
        # `empty: null` is a value: it sends null where leaving it out would leave the field out.
        given |= {name: each for name, each in self.reading.mapping(node).items() if name in NULLABLE}
        if "column" in given and "text" in given:
            self.reading.fault(given["text"], "either column or text")
        fill = self._column(given["column"]) if "column" in given else self._template(given.get("text"))
        wanted = _kind(kind)
        if "type" in given:
            wanted = TYPES.get(self.reading.choice(given["type"], list(TYPES)), "text")
        return self._from_text(fill, wanted, given)

    def _template(self, node: Node | None) -> Callable[[Row], str]:
        compiled = template(self.reading.text(node))
        if node is not None:
            self.used += [(node, column) for column in compiled.columns]
            for name in compiled.unknown_filters:
                self.reading.fault(node, one_of(list(FILTERS), name), name)
        return compiled.fill

    def _from_text(self, fill: Callable[[Row], str], kind: Kind, given: dict[str, Node]) -> Maker:
        """Text, then what an empty one means, then the map, then the conversion to the field's kind."""
        convert = converter(kind, self._options(given))
        mapped = self._map(given.get("map"))
        is_closed = bool(mapped) and "else" not in given
        other = self._constant(given["else"]) if "else" in given else ABSENT
        empty = self._constant(given["empty"]) if "empty" in given else ABSENT

        def make(row: Row) -> Any:
            text = fill(row)
            if text in mapped:
                return mapped[text]
            if not text:
                return empty
            if is_closed:
                raise Bad("not_mapped", text, "one of " + ", ".join(mapped), "add it to `map`, or an `else`")
            return convert(text) if other is ABSENT else other

        return make

    def _map(self, node: Node | None) -> dict[str, Any]:
        given = self.reading.mapping(node) if node is not None else {}
        return {text: self._constant(value) for text, value in given.items()}

    def _constant(self, node: Node) -> Any:
        if isinstance(node.value, str | bool | int) or node.value is None:
            return node.value
        self.reading.fault(node, "a text, a whole number, true, false or null")
        return None

    def _options(self, given: dict[str, Node]) -> Options:
        options = Options(self._zone(given["zone"]) if "zone" in given else self.zone)
        if "format" in given:
            nodes = self.reading.one_or_more(given["format"])
            options = options._replace(formats=tuple(self.reading.name(each) for each in nodes))
        if "at" in given:
            options = options._replace(at=self._time(given["at"]))
        if "minor" in given:
            options = options._replace(minor=self.reading.integer(given["minor"], 0, 4))
        if "decimal" in given:
            options = options._replace(decimal=self.reading.choice(given["decimal"], (".", ",")))
        if "split" in given:
            options = options._replace(split=self.reading.text(given["split"]) or None)
        return options

    def _time(self, node: Node) -> time | None:
        text = self.reading.text(node)
        if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?", text):
            self.reading.fault(node, 'a time of day such as "00:00"')
            return None
        return time.fromisoformat(text)

    def _when(self, node: Node | None) -> Callable[[Row], bool]:
        """All conditions hold; each is on one column."""
        if node is None:
            return lambda row: True
        tests = [self._test(column, each) for column, each in self.reading.mapping(node).items()]
        return lambda row: all(test(row) for test in tests)

    def _test(self, column: str, node: Node) -> Callable[[Row], bool]:
        self.used.append((node, column))
        if not isinstance(node.value, dict):
            wanted = {self._written(each) for each in self.reading.one_or_more(node)}
            return lambda row: row[column].strip() in wanted
        given = self.reading.fields(node, (), ("present", "not"))
        if "present" in given:
            present = self.reading.boolean(given["present"])
            return lambda row: bool(row[column].strip()) is present
        unwanted = {self._written(each) for each in self.reading.one_or_more(given.get("not"))}
        return lambda row: row[column].strip() not in unwanted

    def _written(self, node: Node) -> str:
        return self.reading.text(node)


def _parts(kind: inspect.Type) -> list[inspect.Type]:
    """The types a value may have, null left out."""
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [part for part in parts if not isinstance(part, inspect.NoneType)]


def _kind(kind: inspect.Type) -> Kind:
    """What text has to become for a field of this type."""
    parts = _parts(kind)
    if len(parts) > 1:
        return "text"
    part = parts[0]
    if isinstance(part, inspect.Metadata):
        return "instant" if part.extra and part.extra["json"] == "instant" else "date"
    kinds: dict[type, Kind] = {
        inspect.IntType: "integer",
        inspect.FloatType: "number",
        inspect.BoolType: "boolean",
        inspect.ListType: "list",
        inspect.StructType: "object",
        inspect.DictType: "object",
    }
    return kinds.get(type(part), "text")


def _item(kind: inspect.Type) -> inspect.Type:
    found = [part.item_type for part in _parts(kind) if isinstance(part, inspect.ListType)]
    return found[0] if found else inspect.StrType()


def _members(kind: inspect.Type) -> dict[str, inspect.Type] | None:
    """The fields of a nested record; None where any key may stand."""
    found = [part for part in _parts(kind) if isinstance(part, inspect.StructType)]
    return {each.encode_name: each.type for each in found[0].fields} if found else None
