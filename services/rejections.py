"""What the projector refused, as far as it can be read, and what was published in its place.

Promises: a rejection is named by its place on the topics for ever; read by number from the last one seen on,
none is missed and none comes twice. A repair is noted after Kafka has acknowledged it. Leaves refusing to
`services.projector`, and who may see which source's rejections to the doors.
"""

import re
from functools import cache
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from asyncpg import Record as Row
from msgspec import Struct

from schemas import contract, wire
from schemas.instants import rfc3339
from schemas.records import TOPIC_OF, Micros, Record
from schemas.wire import Decoder, Unreadable
from services.store.pool import Connection
from services.wording import legible

REPAIRS_HEADER = "leadlog_repairs"
"""Kafka header of an event that was published in place of a rejected record: that record's place."""
PAGE = 500
"""Rejections in one answer, unless fewer are asked for."""
READ_BYTES = contract.MAX_EVENT_BYTES
"""A longer value is not decoded: it can be no event, and a page of such would fill the memory."""
SHOWN_BYTES = 500
"""So much is shown of a value that cannot be read."""

SELECT = """
select
  reject_no, topic, partition, "offset", reason, message, source, event_id, subject_id, key, rejected_at,
  octet_length(value) as size_bytes,
  case when octet_length(value) <= $1 then value end as value,
  substring(value from 1 for $2) as beginning,
  array(
    select repair.event_id from ops.repair
    where repair.topic = reject.topic and repair.partition = reject.partition
      and repair."offset" = reject."offset"
    order by repaired_at, event_id
  ) as repaired_by
from log.reject
"""

AT_PLACE = SELECT + """where (topic, partition, "offset") = ($3, $4, $5)"""

AFTER = (
    SELECT
    + """
where reject_no > $3
  and ($4::timestamptz is null or rejected_at >= $4)
  and ($5::text is null or reason = $5)
  and ($6::text is null or source = $6)
order by reject_no limit $7
"""
)

NOTE = """
insert into ops.repair (topic, partition, "offset", event_id) values ($1, $2, $3, $4) on conflict do nothing
"""


class Place(NamedTuple):
    """Topic, partition and offset: what names a record that cannot be read."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return "-".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The place written as `topic-partition-offset`. Raises ValueError."""
        found = re.fullmatch(r"([\w.-]+)-([0-9]{1,4})-([0-9]{1,18})", text)
        if found is None:
            raise ValueError(
                f"{text!r} names no record: expected topic-partition-offset, as lead.events-3-17"
            )
        return cls(found[1], int(found[2]), int(found[3]))


class Rejection(Struct, frozen=True, kw_only=True):
    """One refused record."""

    number: int
    """Grows in the order in which rejections were stored: the cursor."""
    place: str
    """`topic-partition-offset`"""
    reason: str
    """Code, as in the header `reason` on `lead.rejected`."""
    message: str
    rejected_at: str
    """RFC 3339, UTC"""
    source: str | None
    event_id: str | None
    subject_id: str | None
    key: str | None
    """The key as text; what is not printable is written as `\\xff`."""
    size_bytes: int | None
    """Of the value; None when there is none: a tombstone, or its subject was erased."""
    content: dict[str, Any] | None
    """The event in the contract's JSON form, unchecked; None when it cannot be read that far."""
    beginning: str | None
    """The first bytes of a value without content, as text."""
    repaired_by: list[str]
    """Ids of the events published in its place."""


class Page(Struct, frozen=True):
    """Rejections in the order of their numbers."""

    rejections: list[Rejection]
    cursor: int
    """To be given as `after` to read on, now or later."""
    is_last: bool
    """Whether nothing follows yet."""


async def read_page(
    connection: Connection,
    *,
    after: int = 0,
    since: Micros | None = None,
    reason: str | None = None,
    source: str | None = None,
    limit: int = PAGE,
) -> Page:
    """Rejections with a number above `after`, refused at `since` or later; all of them, or of one reason or
    source."""
    rows = await connection.fetch(AFTER, READ_BYTES, SHOWN_BYTES, after, since, reason, source, limit + 1)
    found = [_rejection(row) for row in rows[:limit]]
    return Page(found, found[-1].number if found else after, len(rows) <= limit)


async def read_one(connection: Connection, place: Place) -> Rejection | None:
    """The rejection of the record at a place."""
    row = await connection.fetchrow(AT_PLACE, READ_BYTES, SHOWN_BYTES, *place)
    return None if row is None else _rejection(row)


async def repair(producer: AIOKafkaProducer, connection: Connection, place: Place, corrected: Record) -> None:
    """Publishes an event in place of a rejected record. Crashed in between, it may be done again: the event
    counts once."""
    topic, key = TOPIC_OF[type(corrected).__name__], corrected.subject_id.encode()
    headers = [*wire.headers(corrected), (REPAIRS_HEADER, str(place).encode())]
    await producer.send_and_wait(topic, wire.encode(corrected), key=key, headers=headers)
    await connection.execute(NOTE, *place, corrected.event_id)


def content_of(value: bytes | None, decoder: Decoder) -> dict[str, Any] | None:
    """What a value says, unchecked: as Avro, or as JSON, which is what a publisher most easily mistakes."""
    try:
        return contract.written(decoder.unchecked(value))
    except Unreadable:
        pass
    try:
        return msgspec.json.decode(value or b"", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _text(raw: bytes) -> str:
    """Bytes as text that every terminal can show."""
    return legible(raw.decode("utf-8", "backslashreplace"))


@cache
def _released() -> Decoder:
    return Decoder()


def _rejection(row: Row) -> Rejection:
    content = content_of(row["value"], _released())
    shown = row["beginning"] if content is None else None
    return Rejection(
        number=row["reject_no"],
        place=str(Place(row["topic"], row["partition"], row["offset"])),
        reason=row["reason"],
        message=row["message"],
        rejected_at=rfc3339(row["rejected_at"]),
        source=row["source"],
        event_id=row["event_id"],
        subject_id=row["subject_id"],
        key=None if row["key"] is None else _text(row["key"]),
        size_bytes=row["size_bytes"],
        content=content,
        beginning=None if shown is None else _text(shown),
        repaired_by=row["repaired_by"],
    )
