"""Records as bytes on a topic, and back.

Promises: Confluent's wire format (a zero byte, the schema id as big-endian int32, the Avro body) and
CloudEvents headers in binary mode. Decoding checks types, vocabularies and whether Postgres can hold the
values, and raises nothing but `Unreadable`. Rules about the content are left to `schemas.contract` (at the
doors) and to the fold.
"""

import io
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import fastavro
import msgspec

from schemas.content import canonical_json, hash_of, holds_nul
from schemas.ids import RELEASED, SCHEMA_ID, fingerprint, schema_text, without
from schemas.instants import rfc3339
from schemas.records import RECORDS, Envelope, Record

MAGIC = 0
PREFIX = struct.Struct(">bI")


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


class _Writer(NamedTuple):
    """How bodies of one schema id are read."""

    record: type[Record]
    schema: Any
    reader: Any
    """Today's schema when it differs, else None."""


def _parse(text: str) -> Any:
    """A schema for fastavro. Logical types are left out, so that instants stay integers."""
    return fastavro.parse_schema(without(json.loads(text), "logicalType", "doc"))


TODAY = {name: _parse(schema_text(name)) for name in RECORDS}
_FINGERPRINTS = {name: fingerprint(schema_text(name)) for name in RECORDS}


class Decoder:
    """Reads values of the input topics. Knows the released schemas, and what it is told to learn."""

    def __init__(self, schemas: Mapping[int, str] | None = None) -> None:
        """Start with these schema texts by id; with every released one if none are given."""
        self._writers: dict[int, _Writer | Unreadable] = {}
        known = {key: release.text for key, release in RELEASED.items()} if schemas is None else schemas
        for schema_id, text in known.items():
            self.learn(schema_id, text)

    def learn(self, schema_id: int, text: str | None) -> None:
        """Remember the schema of an id, or with None that not even the registry knows it. Never raises."""
        self._writers[schema_id] = _writer(schema_id, text)

    def decode(self, value: bytes | None) -> Record:
        """The record in a Kafka value. Raises Unreadable."""
        return self.decode_hashed(value).record

    def decode_hashed(self, value: bytes | None) -> Decoded:
        """The record in a Kafka value and the hash of its content. Raises Unreadable."""
        schema_id = schema_id_of(value)
        writer = self._writers.get(schema_id)
        if writer is None:
            raise UnknownSchema(schema_id)
        if isinstance(writer, Unreadable):
            raise Unreadable(writer.reason, writer.message)
        assert value is not None
        return _storable(_typed(writer, _body(writer, value)))


def schema_id_of(value: bytes | None) -> int:
    """The schema id that a Kafka value names. Raises Unreadable."""
    if value is None or len(value) < PREFIX.size:
        raise Unreadable("not_avro", "the value is empty or shorter than the 5 bytes of the wire format")
    magic, schema_id = PREFIX.unpack_from(value)
    if magic != MAGIC:
        raise Unreadable("not_avro", f"the first byte is {value[0]}, expected 0 (Confluent wire format)")
    return int(schema_id)


def _writer(schema_id: int, text: str | None) -> _Writer | Unreadable:
    if text is None:
        return Unreadable("unknown_schema", f"schema id {schema_id} is unknown to the registry too")
    try:
        schema = _parse(text)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        fastavro.schema.SchemaParseException,
    ) as e:
        return Unreadable("incompatible_schema", f"the schema with id {schema_id} cannot be parsed: {e!r}")
    full_name = schema.get("name", "") if isinstance(schema, dict) else str(schema)
    name = full_name.removeprefix("leadlog.")
    if name == full_name or name not in RECORDS:
        return Unreadable(
            "unknown_record", f"the schema with id {schema_id} is of {full_name or text[:80]!r}"
        )
    same = fingerprint(text) == _FINGERPRINTS[name]
    return _Writer(RECORDS[name], schema, None if same else TODAY[name])


def _body(writer: _Writer, value: bytes) -> Any:
    stream = io.BytesIO(value)
    stream.seek(PREFIX.size)
    try:
        fields = fastavro.schemaless_reader(stream, writer.schema, writer.reader)
    except fastavro.read.SchemaResolutionError as fault:
        raise Unreadable("incompatible_schema", str(fault)) from None
    except (
        EOFError,
        ValueError,
        IndexError,
        OverflowError,
        MemoryError,
        RecursionError,
        KeyError,
        TypeError,
    ) as fault:
        raise Unreadable("not_avro", f"the body does not fit its schema: {fault!r}") from None
    if stream.tell() != len(value):
        raise Unreadable("not_avro", f"{len(value) - stream.tell()} bytes follow the record")
    return fields


def _typed(writer: _Writer, fields: Any) -> Record:
    try:
        return msgspec.convert(fields, writer.record)
    except msgspec.ValidationError as fault:
        raise Unreadable("bad_value", f"{writer.record.__name__}: {fault}") from None


def _storable(record: Record) -> Decoded:
    canonical = canonical_json(record)
    if holds_nul(canonical):
        raise Unreadable("not_storable", "a text holds the character NUL, which Postgres cannot store")
    return Decoded(record, hash_of(canonical))


def encode(record: Envelope, schema_id: int | None = None) -> bytes:
    """A record as a Kafka value, written with today's schema; without an id, with that of the lock file."""
    name = type(record).__name__
    stream = io.BytesIO()
    stream.write(PREFIX.pack(MAGIC, SCHEMA_ID[name] if schema_id is None else schema_id))
    fastavro.schemaless_writer(stream, TODAY[name], msgspec.to_builtins(record))
    return stream.getvalue()


def headers(record: Envelope, traceparent: str | None = None) -> list[tuple[str, bytes]]:
    """Kafka headers: CloudEvents 1.0 in binary mode (its Kafka binding), and the trace where there is one."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": record.event_id,
        "ce_type": f"leadlog.{type(record).__name__}",
        "ce_source": record.source,
        "ce_time": rfc3339(record.occurred_at),
        "ce_subject": record.subject_id,
        "content-type": "application/avro",
    } | ({"traceparent": traceparent} if traceparent else {})
    return [(name, value.encode()) for name, value in attributes.items()]
