"""What the fields of an event are made of, as a mapping file says.

Promises: a maker for each field that fits the field's type, or the faults of what is written there; and every
column that is needed, with its place. Leaves what a cell becomes to `values` and the file as a whole to
`mapping`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, time, tzinfo
from fractions import Fraction
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import inspect

from projections.yaml_tree import Node, Reading, one_of
from schemas.faults import type_faults
from schemas.rules import zone_names
from services.importer.values import (
    ABSENT,
    FILTERS,
    Bad,
    Fill,
    Kind,
    Maker,
    Options,
    Row,
    converter,
    id_of,
    is_time_format,
    maker,
    template,
    text_of,
)

SOURCES = ("column", "text")
OPTIONS = ("map", "format", "at", "zone", "minor", "decimal", "split", "type")
NULLABLE = ("empty", "else")
TIMES: tuple[Kind, ...] = ("instant", "date")
TYPES: dict[str, Kind] = {"text": "text", "number": "number", "integer": "integer", "boolean": "boolean"}


@dataclass(slots=True)
class Fields:
    """Reads fields; holds what is the same for all of them."""

    reading: Reading
    zone: tzinfo = UTC
    """Of times without offset."""
    used: list[tuple[Node, str]] = field(default_factory=list)
    """Every column that was named, and where."""

    def value(self, node: Node, kind: inspect.Type) -> Maker:
        """The maker of a value of this type."""
        if isinstance(node.value, list):
            parts = [self.value(each, _item(kind)) for each in node.value]
            return lambda row: [value for part in parts if (value := part(row)) is not ABSENT] or ABSENT
        if isinstance(node.value, dict) and not any(name in node.value for name in SOURCES):
            return self._object(node, kind)
        before = len(self.used)
        make = self._single(node, kind)
        return make if len(self.used) > before else self._once(node, kind, make)

    def _single(self, node: Node, kind: inspect.Type) -> Maker:
        if isinstance(node.value, dict):
            return self._specified(node, kind)
        if isinstance(node.value, str):
            return self._from_text(self._template(node, kind_of(kind)), kind, kind_of(kind), {})
        value = self._constant(node, kind_of(kind), str)
        return lambda row: value

    def _once(self, node: Node, kind: inspect.Type, make: Maker) -> Maker:
        """A value without columns is the same for every row, and its fault has a line of the mapping."""
        try:
            value = make({})
        except Bad as bad:
            self.reading.fault(node, bad.expected)
            value = ABSENT
        self._check(node, kind, value)
        return lambda row: value

    def _check(self, node: Node, kind: inspect.Type, value: Any) -> None:
        """Reports a value of the mapping itself that a field of this type cannot have."""
        if value is not ABSENT and kind_of(kind) not in TIMES:
            for fault in type_faults(kind, value, ""):
                self.reading.fault(node, f"{fault.expected}; {fault.hint}" if fault.hint else fault.expected)

    def column(self, node: Node | None) -> str:
        """The name of a column."""
        name = self.reading.name(node)
        if node is not None:
            self.used.append((node, name))
        return name

    def zone_of(self, node: Node | None) -> tzinfo:
        """A time zone by its name."""
        name = self.reading.text(node)
        if node is not None and name and name not in zone_names():
            self.reading.fault(node, "an IANA time zone such as UTC or Europe/Berlin")
        return ZoneInfo(name) if name in zone_names() and name != "UTC" else UTC

    def _object(self, node: Node, kind: inspect.Type) -> Maker:
        """A nested record or map; one without any value is left out."""
        known = _members(kind)
        parts: dict[str, Maker] = {}
        for name, value in self.reading.mapping(node).items():
            if known is not None and name not in known:
                self.reading.fault(value, one_of(list(known), name), name)
            else:
                parts[name] = self.value(value, known[name] if known else inspect.StrType())

        def make(row: Row) -> Any:
            made = {name: part(row) for name, part in parts.items()}
            return {name: value for name, value in made.items() if value is not ABSENT} or ABSENT

        return make

    def _specified(self, node: Node, kind: inspect.Type) -> Maker:
        # `empty: null` is a value: it sends null where leaving it out would leave the field out.
        given = self.reading.fields(node, (), (*SOURCES, *OPTIONS), NULLABLE)
        if "column" in given and "text" in given:
            self.reading.fault(given["text"], "either column or text")
        wanted = kind_of(kind)
        if "type" in given:
            wanted = TYPES.get(self.reading.choice(given["type"], list(TYPES)), "text")
        if "column" in given:
            return self._from_text(itemgetter(self.column(given["column"])), kind, wanted, given)
        return self._from_text(self._template(given.get("text"), wanted), kind, wanted, given)

    def _template(self, node: Node | None, kind: Kind) -> Fill:
        made = template(self.reading.text(node))
        if node is not None:
            self.used += [(node, column) for column in made.columns]
            if not made.is_whole:
                self.reading.fault(node, "a column between two braces, such as {id}")
            for name in (name for names in made.filters for name in names if name not in FILTERS):
                self.reading.fault(node, one_of(list(FILTERS), name), name)
        return id_of(made) if kind == "id" else text_of(made)

    def _from_text(self, fill: Fill, kind: inspect.Type, wanted: Kind, given: dict[str, Node]) -> Maker:
        convert = converter(wanted, self._options(given))

        def constant(node: Node) -> Any:
            value = self._constant(node, wanted, convert)
            self._check(node, kind, value)
            return value

        mapped = self.reading.mapping(given["map"]) if "map" in given else {}
        other, empty = (constant(given[name]) if name in given else ABSENT for name in ("else", "empty"))
        return maker(fill, convert, {text: constant(node) for text, node in mapped.items()}, other, empty)

    def _constant(self, node: Node, kind: Kind, convert: Callable[[str], Any]) -> Any:
        """A value that stands in the mapping itself; ABSENT for what is none. Times and dates are read as
        those of cells are."""
        if node.value is None:
            return None
        if kind in TIMES:
            return self._converted(node, convert)
        if isinstance(node.value, Fraction):
            return float(node.value)
        if isinstance(node.value, str | bool | int):
            return node.value
        self.reading.fault(node, "a text, a number, true, false or null")
        return ABSENT

    def _converted(self, node: Node, convert: Callable[[str], Any]) -> Any:
        text = self.reading.text(node)
        try:
            return convert(text) if text else None
        except Bad as bad:
            self.reading.fault(node, bad.expected)
            return None

    def _options(self, given: dict[str, Node]) -> Options:
        options = Options(self.zone_of(given["zone"]) if "zone" in given else self.zone)
        if "format" in given:
            nodes = self.reading.one_or_more(given["format"])
            options = options._replace(formats=tuple(self._time_format(each) for each in nodes))
        if "at" in given:
            options = options._replace(at=self._time(given["at"]))
        if "minor" in given:
            options = options._replace(minor=self.reading.integer(given["minor"], 0, 4))
        if "decimal" in given:
            options = options._replace(decimal=self.reading.choice(given["decimal"], (".", ",")))
        if "split" in given:
            options = options._replace(split=self.reading.text(given["split"]) or None)
        return options

    def _time_format(self, node: Node) -> str:
        layout = self.reading.name(node)
        if layout and not is_time_format(layout):
            self.reading.fault(node, "iso, epoch_s, epoch_ms, or a strptime format such as %d.%m.%Y %H:%M")
        return layout

    def _time(self, node: Node) -> time | None:
        text = self.reading.text(node)
        if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?", text):
            self.reading.fault(node, 'a time of day such as "00:00"')
            return None
        return time.fromisoformat(text)


def kind_of(kind: inspect.Type) -> Kind:
    """What text has to become for a field of this type."""
    parts = _parts(kind)
    if len(parts) > 1:
        return "text"
    part = parts[0]
    if isinstance(part, inspect.Metadata):
        return "instant" if part.extra and part.extra["json"] == "instant" else "date"
    if isinstance(part, inspect.StrType):
        return "id" if part.min_length else "text"
    kinds: dict[type, Kind] = {
        inspect.IntType: "integer",
        inspect.FloatType: "number",
        inspect.BoolType: "boolean",
        inspect.ListType: "list",
        inspect.StructType: "object",
        inspect.DictType: "object",
    }
    return kinds.get(type(part), "text")


def _parts(kind: inspect.Type) -> list[inspect.Type]:
    """The types a value may have, null left out."""
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [part for part in parts if not isinstance(part, inspect.NoneType)]


def _item(kind: inspect.Type) -> inspect.Type:
    found = [part.item_type for part in _parts(kind) if isinstance(part, inspect.ListType)]
    return found[0] if found else inspect.StrType()


def _members(kind: inspect.Type) -> dict[str, inspect.Type] | None:
    """The fields of a nested record; None where any key may stand."""
    found = [part for part in _parts(kind) if isinstance(part, inspect.StructType)]
    return {each.encode_name: each.type for each in found[0].fields} if found else None
