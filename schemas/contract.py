"""The door for events as JSON: what publishers send over HTTP, in files and in imports.

Promises: `parse` returns a record that may be written to its topic, or raises `Refused` with every fault of
the event at once. The good case is one pass of msgspec; the faults are looked for only when there is one.
Leaves out what takes the log or a definition to see (conflicts, unknown stages, reason codes): that is judged
by the fold.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from schemas.content import holds_nul
from schemas.faults import (
    FIELDS,
    Fault,
    Refused,
    close_to,
    missing_field,
    shown,
    type_faults,
    unknown_fields,
    wrong_type,
)
from schemas.instants import day_of, instant_of, iso_date, rfc3339
from schemas.records import RECORDS, Envelope, Micros, Record
from schemas.rules import rule_faults

MAX_EVENT_BYTES = 32 * 1024
"""Largest event as JSON, in bytes."""


def _places(kind: str) -> dict[str, tuple[str, ...]]:
    """Record name to its fields that JSON writes as this kind of text."""
    return {
        name: tuple(field.name for field in fields if kind in _json_kinds(field.type))
        for name, fields in FIELDS.items()
    }


def _json_kinds(kind: inspect.Type) -> Iterator[str]:
    for part in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if isinstance(part, inspect.Metadata) and part.extra:
            yield part.extra["json"]


_INSTANTS, _DATES = _places("instant"), _places("date")


def parse_line(line: bytes, *, now: Micros, may_import: bool) -> Record:
    """One event as JSON text, for example a line of a file. As `parse`."""
    if len(line) > MAX_EVENT_BYTES:
        raise Refused([_too_large(len(line))])
    try:
        event = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        text = line.decode("utf-8", "replace").strip()
        raise Refused([Fault("not_json", "", shown(text), "one JSON object in UTF-8", str(fault))]) from None
    return parse(event, now=now, may_import=may_import)


def parse(event: object, *, now: Micros, may_import: bool) -> Record:
    """The record of an event in the contract's JSON form, decoded.

    `now` becomes `recorded_at`; only who may import history may send one. Raises Refused with every fault.
    """
    if not isinstance(event, dict):
        raise Refused([wrong_type(event, "", "an object")])
    stamped = may_import and "recorded_at" in event
    fields = event if stamped else event | {"recorded_at": rfc3339(now)}
    if stamped or "recorded_at" not in event:
        record = _sound(fields)
        if record is not None:
            return record
    raise Refused(_all_faults(event, fields, may_import))


def record_of(name: str, values: dict[str, Any]) -> Record:
    """The record of fields as they are in memory, for imports, which read times in forms of their own.

    Instants are microseconds, dates days, both within the years 1 to 9999; `recorded_at` is among them. The
    rest is as in JSON. Raises Refused as `parse`.
    """
    record = _checked(name, values)
    if record is not None:
        return record
    return parse({"record": name} | _json_form(name, values), now=0, may_import=True)


def to_json(record: Envelope) -> dict[str, Any]:
    """The contract's JSON form of a record; optional fields that hold their default are left out."""
    event: dict[str, Any] = msgspec.to_builtins(record)
    name = type(record).__name__
    for field in _INSTANTS[name]:
        if field in event:
            event[field] = rfc3339(event[field])
    for field in _DATES[name]:
        if field in event:
            event[field] = iso_date(event[field])
    return event


def _sound(fields: Mapping[str, Any]) -> Record | None:
    """The record of fields in their JSON form, or None when anything at all is wrong with it."""
    try:
        name = fields["record"]
        values = _in_memory(name, fields)
    except (LookupError, TypeError, ValueError):
        return None
    return _checked(name, values)


def _checked(name: str, values: dict[str, Any]) -> Record | None:
    """The record of fields in memory, or None when anything at all is wrong with it."""
    try:
        record = msgspec.convert(values, RECORDS[name])
        encoded = msgspec.json.encode(record)
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    wrong = len(encoded) > MAX_EVENT_BYTES or holds_nul(encoded) or rule_faults(name, values)
    return None if wrong else record


def _json_form(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The fields with instants and dates as text: the way back of `_in_memory`."""
    instants = {field: rfc3339(values[field]) for field in _INSTANTS[name] if _is_number(values, field)}
    dates = {field: iso_date(values[field]) for field in _DATES[name] if _is_number(values, field)}
    return values | instants | dates


def _is_number(values: dict[str, Any], field: str) -> bool:
    return isinstance(values.get(field), int)


def _in_memory(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with instants and dates as integers. Raises ValueError or LookupError."""
    values = dict(fields)
    for field in _INSTANTS[name]:
        if values.get(field) is not None:
            values[field] = instant_of(values[field])
    for field in _DATES[name]:
        if values.get(field) is not None:
            values[field] = day_of(values[field])
    return values


def _all_faults(event: dict[str, Any], fields: dict[str, Any], may_import: bool) -> list[Fault]:
    name = event.get("record")
    if not isinstance(name, str) or name not in RECORDS:
        return [_unknown_record(event)]
    faults = [] if may_import else list(_no_import(event))
    faults += _field_faults(name, fields)
    faults = _joined(faults, rule_faults(name, _in_memory(name, _good(name, fields, faults))))
    if not faults:
        faults += _size(event)
    return faults or [Fault("wrong_type", "", None, f"a {name} of the contract")]


def _no_import(event: dict[str, Any]) -> Iterator[Fault]:
    if "recorded_at" in event:
        hint = "leave it out; only a key that may import history may send it"
        value = shown(event["recorded_at"])
        yield Fault("recorded_at_refused", "/recorded_at", value, "no recorded_at", hint)


def _unknown_record(event: dict[str, Any]) -> Fault:
    name, names = event.get("record"), list(RECORDS)
    code = "unknown_record" if "record" in event else "missing_field"
    return Fault(code, "/record", shown(name), "one of " + ", ".join(names), close_to(name, names))


def _field_faults(name: str, fields: dict[str, Any]) -> Iterator[Fault]:
    known = FIELDS[name]
    yield from unknown_fields(fields, ["record", *(field.name for field in known)], "")
    for field in known:
        if field.name in fields:
            yield from type_faults(field.type, fields[field.name], f"/{field.name}")
        elif field.required:
            yield missing_field("", field.name)


def _good(name: str, fields: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    """The fields without a fault of their own."""
    bad = {fault.path.split("/")[1] for fault in faults}
    return {field.name: fields[field.name] for field in FIELDS[name] if field.name in fields.keys() - bad}


def _joined(by_type: list[Fault], by_rule: list[Fault]) -> list[Fault]:
    """One fault for one thing: a rule says more than `missing_field`, but less than a fault of the value."""
    told = {fault.path for fault in by_rule}
    kept = [fault for fault in by_type if fault.code != "missing_field" or fault.path not in told]
    places = [fault.path for fault in kept]
    return kept + [fault for fault in by_rule if not _within(fault.path, places)]


def _within(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _size(event: dict[str, Any]) -> Iterator[Fault]:
    size = len(msgspec.json.encode(event))
    if size > MAX_EVENT_BYTES:
        yield _too_large(size)


def _too_large(size: int) -> Fault:
    hint = "keep long texts elsewhere and send a link"
    return Fault("too_large", "", size, f"at most {MAX_EVENT_BYTES} bytes", hint)
