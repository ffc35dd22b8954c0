"""Bytes of every released schema, and what they must decode to for ever.

Run `python -m tests.golden_files` after a schema was released: files that are missing are written, with one
event that has as little as the schema allows and one that has everything. A file that is there is never
touched.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from schemas import derived
from schemas.content import content_hash
from schemas.contract import to_json
from schemas.faults import FIELDS
from schemas.ids import RELEASED, SCHEMA_ID, Released
from schemas.records import RECORDS, Record
from schemas.wire import encode

FOLDER = Path(__file__).parent / "golden"
INSTANT = 1_772_357_400_123_456
"""2026-03-01T09:30:00.123456Z; a field is as many days later as its name has letters."""
DAY = 86_400_000_000


def golden_file(release: Released) -> Path:
    """Where the golden bytes of a released schema are kept."""
    return FOLDER / f"{release.record}.v{release.version}.json"


def smallest(name: str) -> Record:
    """An event with required fields only."""
    return _made(
        name, {field.name: _value(field.type, field.name) for field in FIELDS[name] if field.required}
    )


def fullest(name: str) -> Record:
    """An event with every field."""
    return _made(name, {field.name: _value(field.type, field.name) for field in FIELDS[name]})


def concluded(name: str) -> derived.Derived:
    """A conclusion with every field."""
    info = inspect.type_info(derived.STRUCTS[name])
    assert isinstance(info, inspect.StructType)
    fields = {field.name: _value(field.type, field.name) for field in info.fields}
    return msgspec.convert(fields, derived.STRUCTS[name])


def _made(name: str, fields: dict[str, Any]) -> Record:
    return msgspec.convert(fields, RECORDS[name])


def _value(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.Metadata(extra={"json": "instant"}):
            return INSTANT + len(name) * DAY
        case inspect.Metadata():
            return 20_513
        case inspect.LiteralType():
            return kind.values[-1]
        case inspect.StrType():
            return {"currency": "EUR", "zone": "Europe/Berlin"}.get(name, f"{name} Žofie 1½")
        case inspect.IntType():
            return -(2**40) - len(name)
        case inspect.FloatType():
            return 0.8
        case inspect.BoolType():
            return True
        case inspect.ListType():
            return [_value(kind.item_type, name), _value(kind.item_type, name)]
        case inspect.DictType():
            return {f"{name} 1": _value(kind.value_type, name), f"{name} 2": _value(kind.value_type, name)}
        case inspect.StructType():
            return {field.name: _value(field.type, f"{name}.{field.name}") for field in kind.fields}
        case inspect.UnionType():
            branches = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
            return 1.5 if len(branches) > 1 else _value(branches[0], name)
    raise TypeError(f"no example for {kind}")


def golden(record: Record | derived.Derived) -> dict[str, Any]:
    """What a golden file says about one event."""
    if isinstance(record, derived.Derived):
        return {"value": derived.encode(record).hex(), "event": msgspec.to_builtins(record)}
    return {
        "value": encode(record).hex(),
        "event": to_json(record),
        "content_hash": content_hash(record).hex(),
    }


def write_missing() -> list[Path]:
    """Write the files of newly released schemas. Returns them."""
    new = [r for r in RELEASED.values() if r.schema_id == SCHEMA_ID[r.record] and not golden_file(r).exists()]
    for release in new:
        made = (concluded,) if release.record in derived.STRUCTS else (smallest, fullest)
        events = [golden(make(release.record)) for make in made]
        golden_file(release).write_text(json.dumps(events, indent=1, ensure_ascii=False) + "\n")
    return [golden_file(release) for release in new]


if __name__ == "__main__":
    for file in write_missing():
        print(f"wrote {file}")
