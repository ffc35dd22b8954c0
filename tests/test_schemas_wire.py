"""Records survive the way over a topic, and whatever else lies there is refused with a reason.

The texts of the schemas are looked at in test_schemas.
"""

import io
import json
import re
import struct
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.content import canonical_json, content_hash
from schemas.contract import parse, to_json
from schemas.ids import RELEASED, SCHEMA_ID, schema_text, without
from schemas.records import MAX_INSTANT, RECORDS, SYSTEM, Actor, Record, TouchRecorded
from schemas.straight import reader, writer
from schemas.wire import Decoder, UnknownSchema, Unreadable, encode, headers
from tests.any_record import records
from tests.golden_files import fullest, smallest

DECODER = Decoder()


def bare(text: str) -> Any:
    """A schema for fastavro that leaves instants integers."""
    return fastavro.parse_schema(without(json.loads(text), "logicalType", "doc"))


SCHEMAS = {name: bare(schema_text(name)) for name in RECORDS}
TOUCH = TouchRecorded(
    event_id="web:1",
    subject_id="web:5f3a",
    occurred_at=1_772_357_400_000_000,
    recorded_at=1_772_357_401_000_000,
    source="web",
    touch_type="page_view",
    direction="inbound",
    channel="organic_search",
)


def by_fastavro(name: str, fields: dict[str, Any], schema: Any = None) -> bytes:
    """A Kafka value with these fields, written by fastavro."""
    stream = io.BytesIO(struct.pack(">bI", 0, SCHEMA_ID[name]))
    stream.seek(5)
    fastavro.schemaless_writer(stream, schema or SCHEMAS[name], fields)
    return stream.getvalue()


def touch(**changes: Any) -> bytes:
    """The example touch with other values, right or wrong."""
    return by_fastavro("TouchRecorded", msgspec.to_builtins(TOUCH) | changes)


def reason(value: bytes | None) -> str:
    """Why a value is refused."""
    with pytest.raises(Unreadable) as refused:
        DECODER.decode(value)
    return refused.value.reason


@given(records())
def test_a_record_comes_back_from_its_bytes(record: Record) -> None:
    """Decoding what was encoded gives an equal record and its content hash."""
    assert DECODER.decode_hashed(encode(record)) == (record, content_hash(record))


@given(records())
def test_the_writer_writes_what_fastavro_writes(record: Record) -> None:
    """Every byte is that of fastavro."""
    name = type(record).__name__
    assert encode(record) == by_fastavro(name, msgspec.to_builtins(record))


@given(records())
def test_the_reader_reads_what_fastavro_reads(record: Record) -> None:
    """The straight-line reader returns the fields that fastavro returns, or leaves the bytes to it."""
    name, value = type(record).__name__, encode(record)
    expected = fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMAS[name], None)
    try:
        assert reader(SCHEMAS[name])(value, 5) == (expected, len(value))
    except ValueError:
        assert DECODER.decode(value) == record


@given(records())
def test_both_doors_give_one_content(record: Record) -> None:
    """Content is the same for an event sent as JSON and for one that was written to Kafka."""
    event = msgspec.json.decode(msgspec.json.encode(to_json(record)))
    fields = {field: value for field, value in event.items() if field != "record"}
    assert fields.keys() <= {*msgspec.structs.asdict(record)}
    assert canonical_json(DECODER.decode(encode(record))) == canonical_json(record)


def test_content_leaves_out_the_recording_time_only() -> None:
    """Two copies recorded apart are equal; a map key of that name is content."""
    later = msgspec.structs.replace(TOUCH, recorded_at=TOUCH.recorded_at + 1)
    assert content_hash(later) == content_hash(TOUCH)
    named = msgspec.structs.replace(TOUCH, properties={"recorded_at": "1"})
    assert b'"properties":{"recorded_at":"1"}' in canonical_json(named)
    assert content_hash(named) != content_hash(TOUCH)


def test_content_does_not_tell_a_default_from_a_value_that_equals_it() -> None:
    """An actor that was sent as the system is the actor that was left out."""
    sent = msgspec.structs.replace(TOUCH, actor=Actor("system", None), properties={})
    assert content_hash(sent) == content_hash(msgspec.structs.replace(TOUCH, actor=SYSTEM))


def test_content_of_a_number_does_not_depend_on_how_it_was_sent() -> None:
    """1 and 1.0 are one attribute value."""
    event = to_json(smallest("AttributeChanged"))
    sent = [parse(event | {"value": value}, now=MAX_INSTANT, may_import=True) for value in (1, 1.0)]
    assert content_hash(sent[0]) == content_hash(sent[1])


def test_content_is_laid_down() -> None:
    """The canonical JSON of an event is this, to the byte, since its hash is stored."""
    record = msgspec.structs.replace(TOUCH, actor=Actor("human", "crm:u1"), properties={"b": "é", "a": "1"})
    assert canonical_json(record).decode() == (
        '{"actor":{"id":"crm:u1","kind":"human"},"channel":"organic_search","direction":"inbound",'
        '"event_id":"web:1","occurred_at":1772357400000000,"properties":{"a":"1","b":"é"},'
        '"record":"TouchRecorded","source":"web","subject_id":"web:5f3a","touch_type":"page_view"}'
    )
    assert content_hash(record).hex() == "9899afc1080225266628c56321c314c7"


def test_headers_are_cloud_events() -> None:
    """A record travels with the attributes of CloudEvents 1.0, and with a trace where there is one."""
    assert dict(headers(TOUCH, "00-ab-cd-01")) == {
        "ce_specversion": b"1.0",
        "ce_id": b"web:1",
        "ce_type": b"leadlog.TouchRecorded",
        "ce_source": b"web",
        "ce_time": b"2026-03-01T09:30:00Z",
        "ce_subject": b"web:5f3a",
        "content-type": b"application/avro",
        "traceparent": b"00-ab-cd-01",
    }


NO_AVRO = [
    None,
    b"",
    b"\0\0\0\0",
    b"\1" + encode(TOUCH)[1:],
    encode(TOUCH)[:5],
    encode(TOUCH)[:-1],
    encode(TOUCH) + b"\0",
]


@pytest.mark.parametrize("value", NO_AVRO)
def test_what_is_no_avro_is_refused(value: bytes | None) -> None:
    """No value, another magic byte, missing and trailing bytes are `not_avro`."""
    assert reason(value) == "not_avro"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (encode(TOUCH)[:-1], "it ends too early"),
        (encode(TOUCH)[:5] + b"\x02\xff", "a text in it is not UTF-8"),
    ],
)
def test_what_does_not_fit_is_told_in_plain_words(value: bytes, said: str) -> None:
    """It said `EOFError: `, and of a number cut off where in memory it was: each reading said otherwise."""
    with pytest.raises(Unreadable, match=f"the body does not fit its schema: {said}"):
        Decoder().decode(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"touch_type": "page_views"},
        {"direction": ""},
        {"actor": {"kind": "robot", "id": None}},
        {"event_id": ""},
        {"subject_id": ""},
        {"subject_id": "x" * 161},
        {"occurred_at": MAX_INSTANT + 1},
        {"recorded_at": -(2**63)},
    ],
)
def test_values_outside_the_contract_are_refused(changes: dict[str, Any]) -> None:
    """A word outside its vocabulary, an empty or endless id, an impossible instant are `bad_value`."""
    assert reason(touch(**changes)) == "bad_value"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    """An attribute is a finite number."""
    fields = msgspec.to_builtins(smallest("AttributeChanged")) | {"value": number}
    assert reason(by_fastavro("AttributeChanged", fields)) == "bad_value"


@pytest.mark.parametrize(
    "changes", [{"url": "a\0b"}, {"subject_id": "\0"}, {"properties": {"\0": ""}}, {"utm": {"term": "\0"}}]
)
def test_text_that_postgres_cannot_hold_is_refused(changes: dict[str, Any]) -> None:
    """The character NUL, at any depth, is `not_storable`."""
    assert reason(touch(**changes)) == "not_storable"


def test_a_text_that_only_looks_like_nul_is_taken() -> None:
    """A backslash and the letters u0000 are text like any other."""
    record = msgspec.structs.replace(TOUCH, url="a\\u0000b")
    assert DECODER.decode(encode(record)) == record


def test_an_unknown_schema_id_can_be_learned() -> None:
    """An id that is not known can be learned and read, and is refused for good once nobody knows it."""
    decoder, value = Decoder(), encode(TOUCH, 4_000)
    with pytest.raises(UnknownSchema) as unknown:
        decoder.decode(value)
    assert unknown.value.schema_id == 4_000
    decoder.learn(4_000, schema_text("TouchRecorded"))
    assert decoder.decode(value) == TOUCH
    decoder.learn(4_000, None)
    with pytest.raises(Unreadable, match="unknown_schema") as refused:
        decoder.decode(value)
    assert not isinstance(refused.value, UnknownSchema)


FOREIGN = [
    ('"string"', "unknown_record"),
    ('["null", "string"]', "unknown_record"),
    ('{"type": "record", "name": "TouchRecorded", "fields": []}', "unknown_record"),
    ('{"type": "record", "name": "Other", "namespace": "leadlog", "fields": []}', "unknown_record"),
    (
        '{"type": "record", "name": "TouchRecorded", "namespace": "leadlog", "fields": []}',
        "incompatible_schema",
    ),
    ("[" * 10_000, "incompatible_schema"),
    ("no JSON", "incompatible_schema"),
    ('{"type": "nonsense"}', "incompatible_schema"),
]


@pytest.mark.parametrize(("text", "expected"), FOREIGN)
def test_foreign_schemas_are_refused(text: str, expected: str) -> None:
    """A schema of no record of ours, or of one that cannot be brought to today's, has its own reason."""
    decoder = Decoder({7: text})
    with pytest.raises(Unreadable) as refused:
        decoder.decode(struct.pack(">bI", 0, 7))
    assert refused.value.reason == expected
    assert not re.search(r"[a-z]Error|NoneType|Unknown[A-Z]", refused.value.message)


def changed(text: str, **field: Any) -> str:
    """A schema with this field as the last one, or without it where only its name is given."""
    schema = json.loads(text)
    schema["fields"] = [f for f in schema["fields"] if f["name"] != field.get("name")]
    if len(field) > 1:
        schema["fields"].append(field)
    return json.dumps(schema)


def test_bytes_of_an_older_schema_are_brought_to_today() -> None:
    """A field that the writer did not know yet has its default, and the content is the same."""
    old = changed(schema_text("TouchRecorded"), name="url")
    decoder = Decoder({7: old})
    fields = msgspec.to_builtins(TOUCH)
    value = by_fastavro("TouchRecorded", fields, bare(old))
    decoded = decoder.decode_hashed(struct.pack(">bI", 0, 7) + value[5:])
    assert decoded == (TOUCH, content_hash(TOUCH))


def test_bytes_of_a_newer_schema_are_read_without_what_is_new() -> None:
    """A worker that is one release behind its publishers goes on."""
    new = changed(schema_text("TouchRecorded"), name="mood", type=["null", "string"], default=None)
    decoder = Decoder({7: new})
    fields = msgspec.to_builtins(TOUCH) | {"mood": "good"}
    value = by_fastavro("TouchRecorded", fields, bare(new))
    assert decoder.decode(struct.pack(">bI", 0, 7) + value[5:]) == TOUCH


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_unreadable(body: bytes) -> None:
    """Whatever follows a known schema id is read or refused with a reason."""
    for schema_id in RELEASED:
        read_or_refuse(struct.pack(">bI", 0, schema_id) + body)
    read_or_refuse(body)


@given(st.sampled_from([make(name) for name in RECORDS for make in (smallest, fullest)]), st.data())
def test_mutated_bytes_raise_nothing_but_unreadable(record: Record, data: st.DataObject) -> None:
    """A record with some bytes changed, cut out or put in is read or refused with a reason."""
    value = bytearray(encode(record))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    read_or_refuse(bytes(value))


def read_or_refuse(value: bytes) -> None:
    """Decode; a record that is read must have a hash and be writable again."""
    try:
        record = DECODER.decode_hashed(value).record
    except Unreadable:
        return
    assert DECODER.decode(encode(record)) == record


def test_writers_and_readers_are_made_for_any_schema_of_ours() -> None:
    """A record that is named again instead of being written out again is understood."""
    flag = {"type": "record", "name": "A", "fields": [{"name": "x", "type": "boolean"}]}
    fields = [
        {"name": "a", "type": flag},
        {"name": "b", "type": "n.A"},
        {"name": "c", "type": ["null", "A"]},
    ]
    schema = {"type": "record", "name": "R", "namespace": "n", "fields": fields}
    value = bytes([1, 0, 2, 1])
    assert reader(schema)(value, 0) == ({"a": {"x": True}, "b": {"x": False}, "c": {"x": True}}, 4)

    class A(msgspec.Struct):
        x: bool

    class R(msgspec.Struct):
        a: A
        b: A
        c: A | None

    out = bytearray()
    writer(schema)(R(A(True), A(False), A(True)), out)
    assert bytes(out) == value
