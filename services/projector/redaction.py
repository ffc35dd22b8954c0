"""Overwrites the personal values of erased subjects in the log.

Promises: after an erasure no table of `log` holds a personal value of the subject, whenever its events
arrive, and whenever a definition calls them personal; the content hash stays, so that a copy sent again is a
duplicate. Which attributes are personal is what any definition ever proposed says. Leaves the rows of the
versions to the fold, which sees only overwritten events.
"""

from functools import lru_cache

import msgspec

from projections import definition
from projections.history import redact as redact_record
from schemas.records import DefinitionProposed
from schemas.wire import encode
from services.projector.decoding import Decoding
from services.store.pool import Connection

FORGOTTEN = "what was wrong is forgotten with its subject, which was erased"
"""Stands for the message about a reject, which may quote the record."""

FORGET_REJECTS = """
update log.reject set key = null, value = null, message = $2
where subject_id = any($1) and message <> $2
"""
PROPOSALS = "select fact from log.reference where record_name = 'DefinitionProposed'"


async def forget_rejects(connection: Connection, subjects: set[str]) -> None:
    """Leaves of the rejects of these subjects only reason and ids: what cannot be read may be personal, and
    so may a key that is none of the contract's, and what a message quotes.

    The caller holds the lock of the rejects.
    """
    if subjects:
        await connection.execute(FORGET_REJECTS, list(subjects), FORGOTTEN)


async def redact(connection: Connection, subjects: set[str], decoding: Decoding) -> None:
    """Overwrites what is personal in the events of these subjects. Their journeys are locked."""
    personal = await personal_names(connection)
    for table in ("event", "event_copy"):
        rows = await connection.fetch(
            f"select event_id, content_hash, body from log.{table} "
            "where subject_id = any($1) and body is not null",
            list(subjects),
        )
        changed = []
        for row in rows:
            record = await decoding.event(row["body"])
            redacted = redact_record(record, personal)
            if redacted != record:
                changed.append((row["event_id"], row["content_hash"], encode(redacted)))
        await connection.executemany(
            f"update log.{table} set body = $3 where event_id = $1 and content_hash = $2", changed
        )


async def erased_subjects(connection: Connection) -> set[str]:
    """Every subject that was ever erased."""
    rows = await connection.fetch("select subject_id from log.subject where erased_at is not null")
    return {row["subject_id"] for row in rows}


async def personal_names(connection: Connection) -> frozenset[str]:
    """Names of attributes that any definition ever proposed calls personal."""
    proposals = await connection.fetch(PROPOSALS)
    return frozenset[str]().union(*(_called_personal(row["fact"]) for row in proposals))


@lru_cache(maxsize=100)  # reading a definition takes 20 ms
def _called_personal(fact: str) -> frozenset[str]:
    proposal = msgspec.json.decode(fact, type=DefinitionProposed)
    try:
        return definition.parse(proposal.body).personal
    except definition.DefinitionFaults:
        return frozenset()
