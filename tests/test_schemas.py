"""The Avro files, the typed records and the lock file say the same, and what was released stays readable.

The bytes are looked at in test_schemas_wire, the registry in test_registry.
"""

import io
import json
from typing import Any

import fastavro
import msgspec
import pytest
from msgspec import inspect

from schemas.content import content_hash
from schemas.contract import to_json
from schemas.derived import STRUCTS, decode
from schemas.faults import FIELDS
from schemas.ids import (
    FOLDER,
    RELEASED,
    SCHEMA_ID,
    Released,
    fingerprint,
    latest,
    released_file,
    schema_text,
    unreleased,
    without,
)
from schemas.records import RECORDS
from schemas.topics import TOPIC_OF_ANY
from schemas.wire import Decoder
from tests.golden_files import FOLDER as GOLDEN
from tests.golden_files import golden_file

ENVELOPE = ["event_id", "subject_id", "occurred_at", "recorded_at", "source", "source_sequence", "actor"]
RELEASES = pytest.mark.parametrize("release", RELEASED.values(), ids=lambda r: f"{r.record}.v{r.version}")
SCALARS = ["string", "double", "boolean"]
EVERY_RECORD = pytest.mark.parametrize("name", RECORDS)
ANY_RECORD = pytest.mark.parametrize("name", TOPIC_OF_ANY)


def avro_type(kind: inspect.Type) -> Any:
    """The Avro type that a field of this type must have."""
    match kind:
        case inspect.Metadata(extra={"json": "instant"}):
            return {"type": "long", "logicalType": "timestamp-micros"}
        case inspect.Metadata():
            return {"type": "int", "logicalType": "date"}
        case inspect.ListType():
            return {"type": "array", "items": avro_type(kind.item_type)}
        case inspect.DictType():
            return {"type": "map", "values": avro_type(kind.value_type)}
        case inspect.StructType():
            fields = [avro_field(field) for field in kind.fields]
            return {"type": "record", "name": kind.cls.__name__, "namespace": "leadlog", "fields": fields}
        case inspect.UnionType():
            branches = [avro_type(part) for part in kind.types if not isinstance(part, inspect.NoneType)]
            return ["null", *(branches if len(branches) == 1 else sorted(branches, key=SCALARS.index))]
    names = {inspect.StrType: "string", inspect.LiteralType: "string", inspect.IntType: "long"}
    return {**names, inspect.FloatType: "double", inspect.BoolType: "boolean"}[type(kind)]


def avro_field(field: inspect.Field) -> dict[str, Any]:
    """The Avro field that a struct's field must have, without its doc."""
    if field.required or field.name in ("kind", "actor"):
        return {"name": field.name, "type": avro_type(field.type)}
    default = None if field.default is None else field.default_factory()
    return {"name": field.name, "type": avro_type(field.type), "default": default}


def fields_of(name: str) -> tuple[inspect.Field, ...]:
    """The fields of a record that is read, or concluded."""
    if name in FIELDS:
        return FIELDS[name]
    info = inspect.type_info(STRUCTS[name])
    assert isinstance(info, inspect.StructType)
    return info.fields


@ANY_RECORD
def test_the_avro_file_has_the_fields_of_the_struct(name: str) -> None:
    """Names, order, types and defaults of the Avro file are those of the record."""
    schema = json.loads(schema_text(name))
    assert (schema["namespace"], schema["name"]) == ("leadlog", name)
    assert without(schema["fields"], "doc") == [avro_field(field) for field in fields_of(name)]


@EVERY_RECORD
def test_every_record_begins_with_the_envelope(name: str) -> None:
    """The envelope comes first, in one order, in every record."""
    assert [field.name for field in FIELDS[name]][:7] == ENVELOPE


def docless(schema: Any, place: str) -> list[str]:
    """The named things in a schema without a doc."""
    if isinstance(schema, list):
        return [found for part in schema for found in docless(part, place)]
    if not isinstance(schema, dict):
        return []
    here = f"{place}.{schema.get('name', '')}"
    missing = [here] if "name" in schema and not schema.get("doc", "").strip() else []
    return missing + [
        found for key in ("type", "fields", "items", "values") for found in docless(schema.get(key), here)
    ]


@ANY_RECORD
def test_everything_is_documented(name: str) -> None:
    """Every record and every field, of inner records too, has a doc."""
    assert docless(json.loads(schema_text(name)), "") == []


def test_there_is_one_avro_file_per_record() -> None:
    """No file without a record, no record without a file, each in the folder of its topic."""
    files = {str(path.relative_to(FOLDER / "avro")) for path in (FOLDER / "avro").rglob("*.avsc")}
    assert files == {f"{topic}/{name}.avsc" for name, topic in TOPIC_OF_ANY.items()}


def test_every_change_of_a_schema_is_released() -> None:
    """A changed Avro file is released with `python -m schemas.ids` before it can be used."""
    assert unreleased(RELEASED) == []


@RELEASES
def test_a_released_text_is_never_changed(release: Released) -> None:
    """The kept text of a release still has the fingerprint of the lock file."""
    assert fingerprint(release.text) == release.fingerprint


def test_the_lock_names_each_release_once() -> None:
    """Ids are positive, versions of a record have no gaps, and every kept text is in the lock."""
    assert min(RELEASED) > 0
    kept = {released_file(release.record, release.version) for release in RELEASED.values()}
    assert kept == set((FOLDER / "released").iterdir())
    for name, newest in latest(RELEASED).items():
        versions = [release.version for release in RELEASED.values() if release.record == name]
        assert sorted(versions) == list(range(1, newest.version + 1))
        assert SCHEMA_ID[name] == newest.schema_id


@RELEASES
def test_todays_reader_resolves_every_release(release: Released) -> None:
    """Avro's own rules of resolution bring bytes of any released schema to today's schema."""
    written = fastavro.parse_schema(json.loads(release.text))
    today = fastavro.parse_schema(json.loads(schema_text(release.record)))
    for event in json.loads(golden_file(release).read_text()):
        body = io.BytesIO(bytes.fromhex(event["value"])[5:])
        fields: Any = fastavro.schemaless_reader(body, written, today)
        assert fields["event_id"] == event["event"]["event_id"]


@RELEASES
def test_released_bytes_mean_the_same_for_ever(release: Released) -> None:
    """Golden bytes of every released schema decode to the same event with the same content hash."""
    decoder = Decoder({release.schema_id: release.text})
    for event in json.loads(golden_file(release).read_text()):
        if release.record in STRUCTS:
            concluded = decode(release.record, bytes.fromhex(event["value"]))
            assert msgspec.to_builtins(concluded) == event["event"]
            continue
        record = decoder.decode(bytes.fromhex(event["value"]))
        assert to_json(record) == event["event"]
        assert content_hash(record).hex() == event["content_hash"]


def test_there_are_golden_bytes_of_nothing_else() -> None:
    """Each golden file belongs to a released schema."""
    assert set(GOLDEN.iterdir()) == {golden_file(release) for release in RELEASED.values()}
