"""Messages that leave with the transaction that caused them: `ops.outbox`, sent by the projector."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from schemas import derived
from schemas.derived import Derived
from schemas.topics import DERIVED
from services.store.pool import Connection, fetch_planned

# A conclusion that is told again while the first telling still waits is one message.
LEAVE = """
insert into ops.outbox (topic, message_id, key, value, headers)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::jsonb[])
on conflict (message_id) do nothing
"""

# What has just been sent is on its way out anyway: whoever waited for that might be waited for.
UNSAY = """
delete from ops.outbox where ctid = any(array(
  select ctid from ops.outbox where message_id = any($1) for update skip locked
))
"""


class Message(NamedTuple):
    """A Kafka record to be sent; `message_id` becomes its `ce_id`."""

    topic: str
    message_id: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


async def leave(connection: Connection, messages: Sequence[Message]) -> None:
    """Leaves messages to be sent in this order, in the caller's transaction."""
    if messages:
        rows = [(*each[:-1], msgspec.json.encode(each.headers).decode()) for each in messages]
        await connection.execute(LEAVE, *(list(column) for column in zip(*rows, strict=True)))


async def conclude(connection: Connection, records: Sequence[Derived]) -> None:
    """Leaves conclusions for `lead.derived`, in this order, in the caller's transaction."""
    messages = [
        Message(DERIVED, each.event_id, each.journey_id.encode(), derived.encode(each), derived.headers(each))
        for each in records
    ]
    await leave(connection, messages)


async def unsay(connection: Connection, message_ids: Sequence[str]) -> None:
    """Takes out what still waits, so that it can be told again after what takes it back."""
    if message_ids:
        await fetch_planned(connection, UNSAY, message_ids)
