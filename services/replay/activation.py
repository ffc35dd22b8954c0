"""Records that a version took effect: one fact for each definition of its timeline, by way of the outbox.

In the transaction that switches the views, so that the log says what BI reads.
"""

import time

import msgspec

from projections import definition
from schemas.records import Actor, DefinitionActivated
from schemas.topics import REFERENCE
from schemas.wire import encode, headers
from services.store.pool import Connection
from services.store.versions import TimelineEntry

INSERT_OUTBOX = """
insert into ops.outbox (topic, message_id, key, value, headers) values ($1, $2, $3, $4, $5)
"""
SOURCE = "leadlog"


async def record_activations(connection: Connection, number: int) -> None:
    """Puts the activations of a version into the outbox."""
    text = await connection.fetchval("select timeline::text from ops.version where version_no = $1", number)
    now = time.time_ns() // 1000
    for entry in msgspec.json.decode(text, type=list[TimelineEntry]):
        agreed = definition.parse(entry.body)
        fact = DefinitionActivated(
            event_id=f"{SOURCE}:{agreed.label}:activated:{number}:{now}",
            subject_id=agreed.definition_id,
            occurred_at=now,
            recorded_at=now,
            source=SOURCE,
            actor=Actor("system", "leadlog replay"),
            definition_id=agreed.definition_id,
            version=agreed.version,
            valid_from=entry.valid_from,
        )
        named = {name: value.decode() for name, value in headers(fact) if name != "ce_id"}
        await connection.execute(
            INSERT_OUTBOX,
            *(REFERENCE, fact.event_id, fact.subject_id.encode(), encode(fact)),
            msgspec.json.encode(named).decode(),
        )
