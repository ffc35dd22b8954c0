"""The door for events as JSON: what publishers send over HTTP, in files and in imports.

Promises: `parse` returns a record that may be written to its topic, or raises `Refused` with every fault of
the event at once. The good case is one pass of msgspec; the faults are looked for only when there is one.
Leaves out what takes the log or a definition to see (conflicts, unknown stages, reason codes): that is judged
by the fold.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec
from msgspec import inspect

from schemas import lenient
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
    unstorable,
    wrong_type,
)
from schemas.instants import day_of, instant_of, iso_date, rfc3339
from schemas.records import RECORDS, Envelope, Micros, Record
from schemas.rules import rule_faults

MAX_EVENT_BYTES = 32 * 1024
"""Largest event as JSON, in bytes."""
STAMP_BYTES = 64
"""What a record as JSON may have beyond the event: `recorded_at`, and more digits of a number."""
MAX_FAULTS = 100
"""Faults listed of one event. A wrong event has a few; 32 KB of unknown fields would have thousands."""


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
        raise Refused(_faults_of_unread(line, str(fault), now, may_import)) from None
    return parse(event, now=now, may_import=may_import)


def parse(event: object, *, now: Micros, may_import: bool) -> Record:
    """The record of an event in the contract's JSON form, decoded.

    `now` becomes `recorded_at`; only who may import history may send one, of the past. Raises Refused with
    every fault.
    """
    if not isinstance(event, dict):
        raise Refused([wrong_type(event, "", "an object")])
    if may_import or "recorded_at" not in event:
        record = _sound(_stamped(event, now, may_import), now)
        if record is not None:
            return record
    raise Refused(_all_faults(event, now, may_import))


def peek(line: bytes) -> dict[str, Any]:
    """What can be read of a refused line: the fields of its JSON object, or nothing."""
    try:
        event = lenient.decode(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def id_of(line: bytes) -> str | None:
    """The event id of a refused line, if it can be read and repeated."""
    event_id = peek(line).get("event_id")
    return event_id if isinstance(event_id, str) and not unstorable(event_id) else None


def record_of(name: str, values: dict[str, Any], now: Micros) -> Record:
    """The record of fields as they are in memory, for imports, which read times in forms of their own.

    Instants are microseconds, dates days, both within the years 1 to 9999; `recorded_at` is among them. The
    rest is as in JSON. Raises Refused as `parse`.
    """
    record = _checked(name, values, now)
    if record is not None:
        return record
    return parse({"record": name} | _json_form(name, values), now=now, may_import=True)


def to_json(record: Envelope) -> dict[str, Any]:
    """The contract's JSON form of a record; optional fields that hold their default are left out."""
    return written(msgspec.to_builtins(record))


def written(event: Mapping[str, Any]) -> dict[str, Any]:
    """Record name and fields with instants and dates as JSON writes them.

    Nothing need be checked: what is no instant or date stays as it is, an optional field without a value is
    left out.
    """
    name = event["record"]
    optional = {field.name for field in FIELDS[name] if not field.required}
    shown = {key: value for key, value in event.items() if value is not None or key not in optional}
    for fields, as_text in ((_INSTANTS[name], rfc3339), (_DATES[name], iso_date)):
        for field in shown.keys() & set(fields):
            with suppress(TypeError, ValueError, OverflowError):
                shown[field] = as_text(shown[field])
    return shown


def _sound(fields: Mapping[str, Any], now: Micros) -> Record | None:
    """The record of fields in their JSON form, or None when anything at all is wrong with it."""
    try:
        name = fields["record"]
        values = _in_memory(name, fields)
    except (LookupError, TypeError, ValueError):
        return None
    return _checked(name, values, now)


def _checked(name: str, values: dict[str, Any], now: Micros) -> Record | None:
    """The record of fields in memory, or None when anything at all is wrong with it."""
    try:
        record = msgspec.convert(values, RECORDS[name])
        encoded = msgspec.json.encode(record)
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    if len(encoded) > MAX_EVENT_BYTES + STAMP_BYTES or holds_nul(encoded) or rule_faults(name, values, now):
        return None
    return record


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


def _stamped(event: dict[str, Any], now: Micros, may_import: bool) -> dict[str, Any]:
    return event if may_import and "recorded_at" in event else event | {"recorded_at": rfc3339(now)}


def _faults_of_unread(line: bytes, why: str, now: Micros, may_import: bool) -> list[Fault]:
    """Those of a line that msgspec does not read: each at its place if it is JSON nevertheless."""
    event = peek(line)
    if event:
        return _all_faults(event, now, may_import)
    try:
        text = line.decode()
    except UnicodeDecodeError as fault:  # msgspec counts from the beginning of a text within the line
        text, why = line.decode("utf-8", "replace"), str(fault)
    return [Fault("not_json", "", shown(text.strip()), "one JSON object in UTF-8", why)]


def _all_faults(event: dict[str, Any], now: Micros, may_import: bool) -> list[Fault]:
    name, fields = event.get("record"), _stamped(event, now, may_import)
    if not isinstance(name, str) or name not in RECORDS:
        return [_unknown_record(event)]
    faults = [] if may_import else list(_no_import(event))
    faults += islice(_field_faults(name, fields), MAX_FAULTS)
    if len(faults) < MAX_FAULTS:  # all are known, so the rules see no field of a wrong type
        faults = _joined(faults, rule_faults(name, _in_memory(name, _good(name, fields, faults)), now))
    if not faults:
        faults += _size(event)
    if len(faults) >= MAX_FAULTS:
        return [*faults[:MAX_FAULTS], _more()]
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


def _more() -> Fault:
    return Fault("more_faults", "", None, "an event of the contract", "mend those listed, then send it again")


def _too_large(size: int) -> Fault:
    hint = "keep long texts elsewhere and send a link"
    return Fault("too_large", "", size, f"at most {MAX_EVENT_BYTES} bytes", hint)
