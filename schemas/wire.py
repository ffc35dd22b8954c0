"""Records as bytes on a topic, and back.

Promises: Confluent's wire format (a zero byte, the schema id as big-endian int32, the Avro body) and
CloudEvents headers in binary mode. Decoding checks types, vocabularies and whether Postgres can hold the
values, and raises nothing but `Unreadable`. Rules about the content are left to `schemas.contract` (at the
doors) and to the fold.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import fastavro
import msgspec

from schemas.content import canonical_json, hash_of, holds_nul
from schemas.ids import RELEASED, SCHEMA_ID, fingerprint, schema_text, without
from schemas.instants import rfc3339
from schemas.records import RECORDS, AttributeChanged, Envelope, Record
from schemas.straight import Reader, Writer, reader, writer

MAGIC = 0
PREFIX = struct.Struct(">bI")
MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RecursionError,
    struct.error,
    fastavro.schema.SchemaParseException,
)
"""What reading foreign bytes or a foreign schema may raise in the libraries."""


class Unreadable(ValueError):
    """Bytes that are no record of the contract.

    `reason` is one of `not_avro` (no wire format, truncated, trailing or malformed bytes), `unknown_schema`
    (an id that no one knows), `unknown_record` (a schema, but of no record of ours), `incompatible_schema` (a
    record of ours that today's reader cannot resolve), `bad_value` (wrong type, outside its range or
    vocabulary) and `not_storable` (text that Postgres cannot hold).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class UnknownSchema(Unreadable):
    """A schema id that this decoder has not learned: ask the registry, `learn`, and decode again."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(
            "unknown_schema", f"schema id {schema_id} is not known; the lock file and the registry are"
        )
        self.schema_id = schema_id


class Decoded(NamedTuple):
    """A record with the hash of its content."""

    record: Record
    content_hash: bytes


class _Source(NamedTuple):
    """How bodies with one schema id are read."""

    record: type[Record]
    schema: Any
    is_todays: bool


def _parsed(text: str) -> Any:
    """A schema for fastavro. Logical types are left out, so that instants stay integers."""
    return fastavro.parse_schema(without(json.loads(text), "logicalType", "doc"))


class _Made(dict[Any, Any]):
    """What is made of a key when it is first asked for: to make all readers and writers takes 50 ms."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> Any:
        self[key] = made = self._make(key)
        return made


_encode = msgspec.json.Encoder().encode
_TODAY = {name: _parsed(schema_text(name)) for name in RECORDS}
_FINGERPRINTS = {name: fingerprint(schema_text(name)) for name in RECORDS}
_READERS: Mapping[str, Reader] = _Made(lambda name: reader(json.loads(schema_text(name))))
_WRITERS: Mapping[type[Envelope], Writer] = _Made(
    lambda record: writer(json.loads(schema_text(record.__name__)))
)
_CE_TYPES: dict[type[Envelope], bytes] = {
    record: f"leadlog.{name}".encode() for name, record in RECORDS.items()
}


class Decoder:
    """Reads values of the input topics. Knows the released schemas, and what it is told to learn."""

    def __init__(self, schemas: Mapping[int, str] | None = None) -> None:
        """Start with these schema texts by id; with every released one if none are given."""
        self._sources: dict[int, _Source | Unreadable] = {}
        known = {key: release.text for key, release in RELEASED.items()} if schemas is None else schemas
        for schema_id, text in known.items():
            self.learn(schema_id, text)

    def learn(self, schema_id: int, text: str | None) -> None:
        """Remember the schema of an id, or with None that not even the registry knows it. Never raises."""
        try:
            self._sources[schema_id] = _source(schema_id, text)
        except Unreadable as fault:
            self._sources[schema_id] = fault

    def decode(self, value: bytes | None) -> Record:
        """The record in a Kafka value. Raises Unreadable."""
        record = self.reread(value)
        _check_storable(record, _encode(record))
        return record

    def decode_hashed(self, value: bytes | None) -> Decoded:
        """The record in a Kafka value and the hash of its content. Raises Unreadable."""
        record = self.reread(value)
        canonical = canonical_json(record)
        _check_storable(record, canonical)
        return Decoded(record, hash_of(canonical))

    def reread(self, value: bytes | None) -> Record:
        """The record in a value that was decoded, and found storable, before. Raises Unreadable."""
        value, source = self._opened(value)
        return _typed(source, _fields(source, value))

    def unchecked(self, value: bytes | None) -> dict[str, Any]:
        """Record name and fields of a value that `decode` may refuse, by its schema alone. Raises
        Unreadable."""
        value, source = self._opened(value)
        return {"record": source.record.__name__, **_fields(source, value)}

    def _opened(self, value: bytes | None) -> tuple[bytes, _Source]:
        """The value and how its body is read. Raises Unreadable."""
        if value is None or len(value) < PREFIX.size:
            raise Unreadable("not_avro", "the value is empty or too short for magic byte and schema id")
        magic, schema_id = PREFIX.unpack_from(value)
        if magic != MAGIC:
            raise Unreadable("not_avro", f"the first byte is {value[0]}, expected 0 (Confluent wire format)")
        source = self._sources.get(schema_id)
        if source is None:
            raise UnknownSchema(schema_id)
        if isinstance(source, Unreadable):
            raise Unreadable(source.reason, source.message)
        return value, source


def _source(schema_id: int, text: str | None) -> _Source:
    """How to read bodies with this schema. Raises Unreadable."""
    if text is None:
        raise Unreadable("unknown_schema", f"the registry knows no schema with id {schema_id}")
    try:
        schema = _parsed(text)
        is_todays = fingerprint(text) in _FINGERPRINTS.values()
    except MALFORMED as fault:
        speaks = isinstance(fault, json.JSONDecodeError | fastavro.schema.SchemaParseException)
        message = f"the schema with id {schema_id} is no Avro schema" + (f": {fault}" if speaks else "")
        raise Unreadable("incompatible_schema", message) from None
    full_name = str(schema.get("name")) if isinstance(schema, dict) else str(schema)
    name = full_name.removeprefix("leadlog.")
    if name == full_name or name not in RECORDS:
        raise Unreadable("unknown_record", f"the schema with id {schema_id} is of {full_name[:200]!r}")
    return _Source(RECORDS[name], schema, is_todays)


def _fields(source: _Source, value: bytes) -> Any:
    """The fields in a value, read the short way, or by fastavro wherever that gives up."""
    if source.is_todays:
        try:
            fields, end = _READERS[source.record.__name__](value, PREFIX.size)
            if end == len(value):
                return fields
        except MALFORMED:
            return _resolved(source, value)
    return _resolved(source, value)


def _resolved(source: _Source, value: bytes) -> Any:
    """The fields in a value, brought to today's schema by Avro's rules of resolution."""
    stream = io.BytesIO(value)
    stream.seek(PREFIX.size)
    todays = None if source.is_todays else _TODAY[source.record.__name__]
    try:
        fields = fastavro.schemaless_reader(stream, source.schema, todays)
    except fastavro.read.SchemaResolutionError as fault:
        raise Unreadable("incompatible_schema", str(fault)) from None
    except MALFORMED as fault:
        raise Unreadable("not_avro", f"the body does not fit its schema: {_said(fault)}") from None
    if stream.tell() != len(value):
        raise Unreadable("not_avro", f"{len(value) - stream.tell()} bytes follow the record")
    return fields


def _said(fault: Exception) -> str:
    """What a library found, in plain words that are the same in every process: its own name objects."""
    match fault:
        case EOFError():
            return "it ends too early, or a length in it is wrong"
        case UnicodeDecodeError():
            return f"a text in it is not UTF-8 (byte {fault.object[fault.start]:#04x})"
        case LookupError():
            return "it names a branch or a symbol that there is not"
    return "a value in it cannot be read"


def _typed(source: _Source, fields: Any) -> Record:
    try:
        return msgspec.convert(fields, source.record)
    except msgspec.ValidationError as fault:
        raise Unreadable("bad_value", f"{source.record.__name__}: {fault}") from None


def _check_storable(record: Record, encoded: bytes) -> None:
    """Raises Unreadable for what Postgres cannot hold; `encoded` is the record as JSON."""
    if (
        isinstance(record, AttributeChanged)
        and isinstance(record.value, float)
        and not isfinite(record.value)
    ):
        raise Unreadable("bad_value", f"AttributeChanged: {record.value} is no finite number - at `$.value`")
    if holds_nul(encoded):
        raise Unreadable("not_storable", "a text holds the character NUL, which Postgres cannot store")


def encode(record: Envelope, schema_id: int | None = None) -> bytes:
    """A record as a Kafka value, written with today's schema; without an id, with that of the lock file."""
    kind = type(record)
    value = bytearray(PREFIX.pack(MAGIC, SCHEMA_ID[kind.__name__] if schema_id is None else schema_id))
    _WRITERS[kind](record, value)
    return bytes(value)


def headers(record: Envelope, traceparent: str | None = None) -> list[tuple[str, bytes]]:
    """Kafka headers: CloudEvents 1.0 in binary mode (its Kafka binding), and the trace where there is one."""
    trace = [("traceparent", traceparent.encode())] if traceparent else []
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", record.event_id.encode()),
        ("ce_type", _CE_TYPES[type(record)]),
        ("ce_source", record.source.encode()),
        ("ce_time", rfc3339(record.occurred_at).encode()),
        ("ce_subject", record.subject_id.encode()),
        ("content-type", b"application/avro"),
        *trace,
    ]
