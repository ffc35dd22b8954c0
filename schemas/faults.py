"""What is wrong with a JSON value, all of it at once, by the types of the records.

Promises: for every value that msgspec refuses for a type there is at least one fault here, with the place,
what was expected and, where one can be given, a hint. Leaves rules between fields to `schemas.rules`. Slower
than msgspec, which stops at the first fault: used only once that has refused.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct, inspect

from schemas.instants import day_of, instant_of
from schemas.records import RECORDS, Envelope

SHOWN_CHARACTERS = 100
"""Longest value repeated in a fault; the publisher has the whole one."""


ENDLESS = (math.inf, -math.inf)
"""What a number becomes that no double holds."""


class Fault(Struct, frozen=True):
    """One thing wrong with one event."""

    code: str
    """Stable, for programs."""
    path: str
    """JSON Pointer (RFC 6901) into the event; empty for the event itself."""
    value: str | int | float | bool | None
    """What was found there; long texts are cut, objects and arrays are given as text."""
    expected: str
    """What should stand there, for people."""
    hint: str | None = None
    """What to do about it, where that can be said."""


class Refused(ValueError):
    """An event that the contract does not take, with every fault found in it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.path or 'event'}: {fault.code}" for fault in faults))
        self.faults = tuple(faults)


def _fields(record: type[Envelope]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return info.fields


FIELDS = {name: _fields(record) for name, record in RECORDS.items()}
"""Record name to its fields, as msgspec describes them."""


def shown(value: object) -> str | int | float | bool | None:
    """A value as a fault repeats it: short, and storable as JSON; an object or array as JSON writes it."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def close_to(value: object, words: Sequence[str]) -> str | None:
    """A hint when a value is almost one of some words."""
    if not isinstance(value, str):
        return None
    lower = {word.lower(): word for word in words}
    found = get_close_matches(value.lower().replace("-", "_"), lower, 1, 0.6)
    return f"did you mean {lower[found[0]]!r}?" if found else None


def below(path: str, key: object) -> str:
    """The JSON Pointer of a member of what stands at `path`."""
    return f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"


def type_faults(kind: inspect.Type, value: Any, path: str) -> Iterator[Fault]:
    """Every fault of a decoded JSON value of a record's type."""
    if isinstance(kind, inspect.Metadata):
        yield from _READERS[kind.extra["json"]](value, path) if kind.extra else ()
    else:
        yield from _FAULTS[type(kind)](kind, value, path)


def wrong_type(value: Any, path: str, expected: str) -> Fault:
    """The fault of a value of another JSON type."""
    return Fault("wrong_type", path, shown(value), expected, None)


def _text(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield wrong_type(value, path, "a text")
    elif unstorable(value):
        yield Fault("not_storable", path, shown(value), "text without NUL and without lone surrogates")
    elif len(value) < (kind.min_length or 0):
        yield Fault("empty", path, value, "a text that is not empty")
    elif kind.max_length is not None and len(value) > kind.max_length:
        yield Fault("too_long", path, shown(value), f"at most {kind.max_length} characters")


def unstorable(text: str) -> bool:
    """Whether Postgres cannot hold a text: it has a NUL or half of a surrogate pair."""
    return "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text))


def _word(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, str) or value not in kind.values:
        expected = "one of " + ", ".join(kind.values)
        code = "not_allowed" if isinstance(value, str) else "wrong_type"
        yield Fault(code, path, shown(value), expected, close_to(value, kind.values))


def _integer(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if isinstance(value, bool) or not (isinstance(value, int) or value in ENDLESS):
        yield wrong_type(value, path, "an integer")
    elif not kind.ge <= value <= kind.le:
        yield Fault("out_of_range", path, shown(value), f"from {kind.ge} to {kind.le}")


def _number(_: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield wrong_type(value, path, "a number")
    elif not _fits_double(value):
        yield Fault("out_of_range", path, shown(value), "a finite number of double precision")


def _fits_double(value: float) -> bool:
    return abs(value) <= 1.7976931348623157e308


def _truth(_: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, bool):
        yield wrong_type(value, path, "true or false")


def _nothing(_: Any, value: Any, path: str) -> Iterator[Fault]:
    if value is not None:
        yield wrong_type(value, path, "null")


def _array(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, list | tuple):
        yield wrong_type(value, path, "an array")
        return
    for at, item in enumerate(value):
        yield from type_faults(kind.item_type, item, below(path, at))


def _map(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield wrong_type(value, path, "an object")
        return
    for key, item in value.items():
        yield from type_faults(kind.key_type, key, below(path, shown(key)))
        yield from type_faults(kind.value_type, item, below(path, shown(key)))


def _object(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield wrong_type(value, path, "an object")
        return
    fields = {field.encode_name: field for field in kind.fields}
    yield from unknown_fields(value, list(fields), path)
    for name, field in fields.items():
        if name in value:
            yield from type_faults(field.type, value[name], below(path, name))


def unknown_fields(value: dict[str, Any], known: Sequence[str], path: str) -> Iterator[Fault]:
    """A fault for each member that the contract does not know."""
    for name, member in value.items():
        if name not in known:
            expected = "one of " + ", ".join(known)
            place = below(path, shown(name))
            yield Fault("unknown_field", place, shown(member), expected, close_to(name, known))


def missing_field(path: str, name: str) -> Fault:
    """The fault of a required member that is not there."""
    return Fault("missing_field", below(path, name), None, "a value; the field is required")


def _choice(kind: Any, value: Any, path: str) -> Iterator[Fault]:
    if value is None and any(isinstance(part, inspect.NoneType) for part in kind.types):
        return
    parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
    if len(parts) == 1:
        yield from type_faults(parts[0], value, path)
        return
    found = [list(type_faults(part, value, path)) for part in parts]
    if all(found):
        right_type = [faults for faults in found if faults[0].code != "wrong_type"]
        yield from right_type[0] if right_type else [_no_choice(found, value, path)]


def _no_choice(found: list[list[Fault]], value: Any, path: str) -> Fault:
    return wrong_type(value, path, ", ".join(faults[0].expected for faults in found) + " or null")


def _instant(value: Any, path: str) -> Iterator[Fault]:
    try:
        instant_of(value)
    except ValueError:
        expected = "an instant as RFC 3339 with offset, such as 2026-03-01T09:30:00Z, in the years 1 to 9999"
        hint = "add the offset: Z for UTC" if _has_no_offset(value) else None
        yield Fault("bad_instant", path, shown(value), expected, hint)


def _has_no_offset(value: Any) -> bool:
    try:
        instant_of(f"{value}Z")
    except ValueError:
        return False
    return isinstance(value, str)


def _date(value: Any, path: str) -> Iterator[Fault]:
    try:
        day_of(value)
    except ValueError:
        yield Fault("bad_date", path, shown(value), "a date as YYYY-MM-DD")


_READERS: dict[str, Callable[[Any, str], Iterator[Fault]]] = {"instant": _instant, "date": _date}
_FAULTS: dict[type, Callable[[Any, Any, str], Iterator[Fault]]] = {
    inspect.StrType: _text,
    inspect.LiteralType: _word,
    inspect.IntType: _integer,
    inspect.FloatType: _number,
    inspect.BoolType: _truth,
    inspect.NoneType: _nothing,
    inspect.ListType: _array,
    inspect.DictType: _map,
    inspect.StructType: _object,
    inspect.UnionType: _choice,
}
