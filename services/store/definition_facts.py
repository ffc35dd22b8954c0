"""The facts about definitions that the log holds, and those that a switch of versions writes."""

from collections.abc import Sequence

import msgspec

from projections import definition
from projections.agreement import facts
from projections.agreement.standing import DefinitionFact
from schemas.records import Actor, Micros
from schemas.topics import REFERENCE
from schemas.wire import encode, headers
from services.store.outbox import Message, leave
from services.store.pool import Connection
from services.store.timeline import TimelineEntry

FACTS = """
select fact from log.reference
where record_name in ('DefinitionProposed', 'DefinitionApproved', 'DefinitionActivated')
"""

_decoder = msgspec.json.Decoder(DefinitionFact)


async def definition_facts(connection: Connection) -> list[DefinitionFact]:
    """Every proposal, approval and activation, in no order."""
    return [_decoder.decode(row["fact"]) for row in await connection.fetch(FACTS)]


async def record_activations(
    connection: Connection, version_no: int, timeline: Sequence[TimelineEntry], by: Actor, now: Micros
) -> None:
    """Says on the log that the definitions of a version's timeline count from now on.

    In the transaction that promotes the version: the outbox brings the facts to the topic. Together they say
    the whole timeline, whatever was activated before.
    """
    for number, entry in enumerate(timeline):
        agreed = definition.parse(entry.body)
        fact = facts.activated(agreed.definition_id, agreed.version, entry.valid_from, by, now + number)
        await connection.execute("insert into ops.activation values ($1, $2)", fact.event_id, version_no)
        told = {name: value.decode() for name, value in headers(fact) if name != "ce_id"}
        message = Message(REFERENCE, fact.event_id, fact.subject_id.encode(), encode(fact), told)
        await leave(connection, [message])
