"""What the product concluded, for other systems: the records of `lead.derived`.

Promises: one struct per Avro record, and event ids that the conclusion alone makes, so that a repeated
message has the id of the first, over merges and restarts too. Never read back by a projection: on an input
topic these records are refused. Leaves when something is concluded to the services.
"""

import io
import json
from typing import Any, get_args

import fastavro
import msgspec
from msgspec import Struct

from schemas.ids import SCHEMA_ID, schema_text, without
from schemas.instants import rfc3339
from schemas.records import Micros
from schemas.straight import Writer, writer
from schemas.topics import DERIVED_RECORDS
from schemas.wire import MAGIC, PREFIX


class StageEntered(Struct, frozen=True):
    """A lead entered a stage; inferred visits are not told."""

    event_id: str
    journey_id: str
    occurred_at: Micros
    concluded_at: Micros
    definition_version: str
    stage: str
    role: str
    entered_event_id: str


class Clock(Struct, frozen=True, kw_only=True):
    """What every conclusion about an SLA clock says."""

    event_id: str
    journey_id: str
    occurred_at: Micros
    concluded_at: Micros
    definition_version: str
    policy_id: str
    started_event_id: str
    started_at: Micros
    due_at: Micros | None = None


class ClockWarned(Clock, frozen=True, kw_only=True):
    """A warning of a running clock was reached; `share` of the target."""

    share: float


class ClockBreached(Clock, frozen=True, kw_only=True):
    """The target was used up while the clock ran."""


class ClockMet(Clock, frozen=True, kw_only=True):
    """The clock was stopped in time; `is_logged_late`: recorded only after it was due."""

    stopped_event_id: str
    is_logged_late: bool


class ClockWithdrawn(Clock, frozen=True, kw_only=True):
    """What was told of the clock no longer holds: late evidence, or there never was an obligation."""

    reason: str


Derived = StageEntered | ClockWarned | ClockBreached | ClockMet | ClockWithdrawn
STRUCTS: dict[str, type[Derived]] = {record.__name__: record for record in get_args(Derived)}
assert tuple(STRUCTS) == DERIVED_RECORDS


def _schema(name: str) -> Any:
    return without(json.loads(schema_text(name)), "logicalType", "doc")


_WRITERS: dict[type[Derived], Writer] = {record: writer(_schema(name)) for name, record in STRUCTS.items()}


def stage_id(role: str, entered_event_id: str) -> str:
    """The event id of `StageEntered`."""
    return f"stage_entered:{role}:{entered_event_id}"


def clock_id(what: str, policy_id: str, started_event_id: str) -> str:
    """The event id of a conclusion about a clock: `warned@0.8`, `breached`, `met`, `withdrawn`."""
    return f"clock_{what}:{policy_id}:{started_event_id}"


def encode(record: Derived) -> bytes:
    """A record as a Kafka value: Confluent's wire format."""
    value = bytearray(PREFIX.pack(MAGIC, SCHEMA_ID[type(record).__name__]))
    _WRITERS[type(record)](record, value)
    return bytes(value)


def decode(name: str, value: bytes) -> Derived:
    """The record of this name in a Kafka value, as a consumer would read it."""
    body = io.BytesIO(value[PREFIX.size :])
    fields = fastavro.schemaless_reader(body, fastavro.parse_schema(_schema(name)), None)
    return msgspec.convert(fields, STRUCTS[name])


def headers(record: Derived) -> dict[str, str]:
    """Kafka headers: CloudEvents 1.0 in binary mode, without `ce_id`, which the outbox gives."""
    return {
        "ce_specversion": "1.0",
        "ce_type": f"leadlog.{type(record).__name__}",
        "ce_source": "leadlog",
        "ce_time": rfc3339(record.occurred_at),
        "ce_subject": record.journey_id,
        "content-type": "application/avro",
    }
