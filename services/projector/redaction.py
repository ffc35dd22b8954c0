"""Overwrites the personal values of erased subjects in the log, and in versions that no fold brings up.

Promises: after an erasure no table of `log` holds a personal value of the subject, whenever its events
arrive, and whenever a definition calls them personal; the content hash stays, so that a copy sent again is a
duplicate. Which attributes are personal is what any definition ever proposed says, also where a version's own
says otherwise. Leaves the rows of the versions that are fed to the fold, which sees only overwritten events,
and has `forget_in_journeys` where it raises.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from projections import definition
from projections.history import redact as redact_record
from schemas.records import DefinitionProposed
from schemas.wire import encode
from services.projector.decoding import Decoding
from services.store.pool import Connection
from services.store.versions import code_version

FORGOTTEN = "what was wrong is forgotten with its subject, which was erased"
"""Stands for the message about a reject, which may quote the record."""

FORGET_REJECTS = """
update log.reject set key = null, value = null, message = $2
where subject_id = any($1) and message <> $2
"""
# Trials, what was known then, and versions of other code.
NOT_BROUGHT_UP = """
select schema_name from ops.version
where status = 'built' or (status in ('fed', 'promoted') and code_version <> $1)
"""
FORGET_VALUES = """
update {schema}.attribute_change as said set value = null, number_value = null
from (
  select event_id, subject_id from log.event union all select event_id, subject_id from log.event_copy
) as named
join log.subject using (subject_id)
where named.event_id = said.event_id and said.name = any($1) and said.value is not null
  and erased_at is not null and {whose} = any($2)
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
    personal, was_there = await personal_names(connection), False
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
        was_there = was_there or bool(changed)
    if was_there:
        for row in await connection.fetch(NOT_BROUGHT_UP, code_version()):
            await _forget_values(connection, row["schema_name"], subjects, personal)


class Forgotten(NamedTuple):
    """Whose personal attributes a version has no more, and what these are called."""

    subjects: set[str]
    personal: frozenset[str]


async def forget_erased(connection: Connection, schema: str, known: Forgotten | None = None) -> Forgotten:
    """Leaves of the personal attributes of all who were ever erased, in a version's rows, only that they were
    said; nothing is read of what is known to be forgotten."""
    found = Forgotten(await erased_subjects(connection), await personal_names(connection))
    subjects = found.subjects
    if known is not None and found.personal <= known.personal:
        subjects = subjects - known.subjects
    if subjects:
        await _forget_values(connection, schema, subjects, found.personal)
    return found


async def forget_in_journeys(connection: Connection, schema: str, journeys: Sequence[str]) -> None:
    """The same for the erased in journeys whose rows stay as they were, since their fold raises."""
    query = FORGET_VALUES.format(schema=schema, whose="said.journey_id")
    await connection.execute(query, list(await personal_names(connection)), journeys)


async def _forget_values(
    connection: Connection, schema: str, subjects: set[str], personal: frozenset[str]
) -> None:
    query = FORGET_VALUES.format(schema=schema, whose="named.subject_id")
    await connection.execute(query, list(personal), list(subjects))


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
