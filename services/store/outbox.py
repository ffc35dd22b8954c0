"""Messages that leave with the transaction that caused them: `ops.outbox`, sent by the projector."""

from collections.abc import Sequence

import msgspec

from schemas import derived
from schemas.derived import Derived
from schemas.topics import DERIVED
from services.store.pool import Connection

# A conclusion that is told again while the first telling still waits is one message.
LEAVE = """
insert into ops.outbox (topic, message_id, key, value, headers)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::jsonb[])
on conflict (message_id) do nothing
"""


async def conclude(connection: Connection, records: Sequence[Derived]) -> None:
    """Leaves conclusions for `lead.derived`, in this order, in the caller's transaction."""
    if records:
        rows = [
            (
                DERIVED,
                each.event_id,
                each.journey_id.encode(),
                derived.encode(each),
                msgspec.json.encode(derived.headers(each)).decode(),
            )
            for each in records
        ]
        await connection.execute(LEAVE, *(list(column) for column in zip(*rows, strict=True)))
