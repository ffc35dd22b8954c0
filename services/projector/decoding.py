"""From raw Kafka records to events of the contract, or to rejects with a reason.

Promises: every record handed in comes out once, as an arrival or as a reject; a schema id that is not known
here is asked of the registry, and while the registry is away the call waits. Leaves what an event does to the
fold.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from schemas.records import ID_CHARACTERS, TOPIC_OF, Envelope
from schemas.records import Record as Event
from schemas.wire import Decoder, UnknownSchema, Unreadable
from services.projector.delivery import Record
from services.projector.log import Arrival
from services.registry import Registry, RegistryAway
from services.rejections import content_of
from services.wording import legible

RETRY_SECONDS = 1.0
"""Pause before a registry that is away is asked again."""

SHOWN_BYTES = 512
"""So much of a wrong key is told: a right one is an id of the contract."""

log = structlog.get_logger()


class Origin(NamedTuple):
    """Where a refused record comes from and which event it is, as far as it tells."""

    source: str | None
    event_id: str | None
    subject_id: str | None


class Reject(NamedTuple):
    """A record that could not be taken, and why."""

    record: Record
    reason: str
    message: str
    origin: Origin


class Decoded(NamedTuple):
    """A batch, read."""

    arrivals: list[Arrival]
    rejects: list[Reject]


class Decoding:
    """A decoder that learns schemas from the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._decoder = Decoder()
        self.waits = ""
        """What the registry said last to a call that waits for it; nothing while none does."""

    async def batch(self, records: Sequence[Record]) -> Decoded:
        """Reads a batch; order is kept."""
        decoded = Decoded([], [])
        for record in records:
            while (unknown := self._sort(record, decoded)) is not None:
                await self._learn(unknown)
        return decoded

    async def event(self, body: bytes) -> Event:
        """The event in a value that was taken before."""
        while True:
            try:
                return self._decoder.reread(body)
            except UnknownSchema as unknown:
                await self._learn(unknown.schema_id)

    def _sort(self, record: Record, decoded: Decoded) -> int | None:
        """Puts a record among the arrivals or the rejects; returns the schema id to be learned before."""
        try:
            decoded.arrivals.append(self._arrival(record))
        except UnknownSchema as unknown:
            return unknown.schema_id
        except Unreadable as error:
            origin = origin_of(record, self._decoder)
            decoded.rejects.append(Reject(record, error.reason, error.message, origin))
        return None

    def _arrival(self, record: Record) -> Arrival:
        event, content_hash = self._decoder.decode_hashed(record.value)
        check_place(event, record)
        assert record.value is not None
        appended_at = record.timestamp * 1000
        return Arrival(event, content_hash, record.value, record.partition, record.offset, appended_at)

    async def _learn(self, schema_id: int) -> None:
        try:
            self._decoder.learn(schema_id, await self._schema(schema_id))
        finally:
            self.waits = ""  # also when a rebalance cancels the call: another worker may need the schema now

    async def _schema(self, schema_id: int) -> str | None:
        """Waits for the registry."""
        while True:
            try:
                return await self._registry.schema(schema_id)
            except RegistryAway as error:
                self.waits = str(error)
                log.warning("registry_away", schema_id=schema_id, error=self.waits)
                await asyncio.sleep(RETRY_SECONDS)


def check_place(event: Envelope, record: Record) -> None:
    """Raises Unreadable when the event lies on another topic, or under another key, than the contract
    says."""
    name = type(event).__name__
    if TOPIC_OF[name] != record.topic:
        raise Unreadable("wrong_topic", f"{name} belongs on {TOPIC_OF[name]}, not on {record.topic}")
    if record.key != event.subject_id.encode():
        raise Unreadable(
            "wrong_key", f"the key is {shown(record.key)}, expected the subject id {event.subject_id!r}"
        )


def shown(key: bytes | None) -> str:
    """A key as a message shows it: any length may come."""
    if key is None:
        return "missing"
    text = legible(key[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    return f"'{text}'" if len(key) <= SHOWN_BYTES else f"'{text}' and so on"


def origin_of(record: Record, decoder: Decoder) -> Origin:
    """By its content, else by its CloudEvents headers and key."""
    headers: dict[str, Any] = dict(record.headers)
    told: dict[str, Any] = {
        "source": headers.get("ce_source"),
        "event_id": headers.get("ce_id"),
        "subject_id": headers.get("ce_subject", record.key),
    }
    told |= content_of(record.value, decoder) or {}
    return Origin(*(_id(told[name]) for name in Origin._fields))


def _id(told: object) -> str | None:
    """Text or bytes as an id that Postgres can hold; None for anything else."""
    if not isinstance(told, str | bytes):
        return None
    raw = told.encode("utf-8", "backslashreplace") if isinstance(told, str) else told
    return raw.decode("utf-8", "backslashreplace")[:ID_CHARACTERS].replace("\0", "\\x00")
